//go:build !linux

package link

import "net"

// listenICMP does nothing: the errors of reads have to do.
func listenICMP(*net.UDPConn) {}

func lastICMP(*net.UDPConn) (Symptom, bool) { return Silence, false }
