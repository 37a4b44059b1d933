package control

import (
	"net"
	"os"
	"path/filepath"

	"anodenet/anode/private"
)

// checkServer closes a connection to a program that only pretends to be the daemon. In a
// directory like /tmp anybody can make the socket while no daemon runs. A daemon belongs to
// root, to this user, or to the owner of the socket's directory.
func checkServer(c net.Conn, path string) error {
	uid := ownerOf(c).uid
	if uid == unknownUser || uid == 0 || uid == os.Geteuid() {
		return nil
	}
	info, err := os.Stat(filepath.Dir(path))
	if err == nil && private.Owner(info) == uid {
		return nil
	}
	c.Close()
	return &private.Error{Path: path, Problem: "another user's program answers, not the daemon", Try: "another --socket PATH, in a directory that only the daemon can write to"}
}
