//go:build unix && !linux

package link

// unsent would be how many bytes a TCP socket has that were never sent.
func unsent(int) int { return 0 }
