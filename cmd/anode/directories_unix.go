//go:build unix

package main

import "golang.org/x/sys/unix"

// mayWrite reports whether this user may make files in a directory.
func mayWrite(dir string) bool { return unix.Access(dir, unix.W_OK) == nil }
