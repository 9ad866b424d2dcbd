//go:build host && long

package hold_test

import "testing"

func TestLongPostgresPoints(t *testing.T) { postgresPoints(t, 100) }
func TestLongMariaDBPoints(t *testing.T)  { mariadbPoints(t, 30) }
func TestLongRedisPoints(t *testing.T)    { redisPoints(t, 30) }
