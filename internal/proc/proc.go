// Package proc reads what the kernel says about this host: its mount tables,
// devices, swap space, and processes with the marks by which a later process
// tells whether they still live. It reads and changes nothing, and knows no
// storage: what a mount is worth to a driver, that driver decides.
package proc
