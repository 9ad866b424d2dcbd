//go:build !long

package ship_test

// histories is how many of them TestHistories plays, over all diets.
const histories = 2200
