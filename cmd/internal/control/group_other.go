//go:build !linux

package control

import (
	"os/user"
	"strconv"
)

// GroupID returns the ID of the group that may use the socket, and whether this machine has it.
func GroupID() (gid int, ok bool) {
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, false
	}
	gid, err = strconv.Atoi(g.Gid)
	return gid, err == nil
}
