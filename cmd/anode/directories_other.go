//go:build !unix

package main

// mayWrite leaves it to the system to say no.
func mayWrite(string) bool { return true }
