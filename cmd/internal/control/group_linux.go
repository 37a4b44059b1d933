package control

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"strings"
)

// GroupID returns the ID of the group that may use the socket, and whether this machine has it.
//
// Only /etc/group is read, whichever way the program was built. The C library would also ask
// what nsswitch.conf names: its modules stay in memory (1 MB), and a directory server that is
// down would hold up each start.
func GroupID() (gid int, ok bool) {
	f, err := os.Open("/etc/group")
	if err != nil {
		return 0, false
	}
	defer f.Close()
	return findGroup(f, group)
}

// findGroup finds a group in a file of group(5): name:password:ID:members.
func findGroup(r io.Reader, name string) (gid int, ok bool) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxGroupLine)
	for lines.Scan() {
		if f := strings.Split(lines.Text(), ":"); len(f) == 4 && f[0] == name {
			n, err := strconv.ParseUint(f[2], 10, 31)
			return int(n), err == nil
		}
	}
	return 0, false
}

// maxGroupLine bounds a line, which names all members of a group.
const maxGroupLine = 1 << 20
