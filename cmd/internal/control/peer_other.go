//go:build !linux

package control

import "net"

// ownerOf cannot tell here: all users share one limit.
func ownerOf(net.Conn) owner { return owner{uid: unknownUser} }
