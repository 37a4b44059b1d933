package platform

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// NewNames returns the one of this system.
func NewNames(log *slog.Logger) Names {
	return &storedNames{log: log, manager: "/etc/resolver", store: systemResolverFiles(), refuses: func(netip.AddrPort) string { return "" }}
}

func systemResolverFiles() resolverFiles {
	return resolverFiles{"/etc/resolver", os.Getpid(), func(pid int) bool {
		err := unix.Kill(pid, 0)
		return err == nil || errors.Is(err, unix.EPERM)
	}}
}

// cleanupNames removes what killed nodes left.
func cleanupNames() ([]string, error) { return systemResolverFiles().cleanup() }
