package platform

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// AsUser has f use files with the rights of a user and a group: those of root are put away meanwhile,
// as are its other groups. Only f itself has them, not goroutines that it starts. It needs root.
func AsUser(uid, gid int, f func()) error {
	done := make(chan error, 1)
	go func() {
		// The kernel knows the rights of each thread. This one ends with the goroutine, since nothing
		// unlocks it, and Go starts no thread from it. The real user stays root: the user cannot
		// interfere with the thread.
		runtime.LockOSThread()
		if err := becomeUser(uid, gid); err != nil {
			done <- fmt.Errorf("becoming user %d: %w", uid, err)
			return
		}
		f()
		done <- nil
	}()
	return <-done
}

// becomeUser changes the calling thread. The packages syscall and unix would change all.
func becomeUser(uid, gid int) error {
	const same = ^uintptr(0)
	if _, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
		return e
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, same, uintptr(gid), same); e != 0 {
		return e
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); e != 0 {
		return e
	}
	return nil
}
