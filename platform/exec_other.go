//go:build !linux

package platform

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"
)

// runAll runs the system's own programs one after the other, each for at most ten
// seconds. It stops at the first that fails.
func runAll(ifname string, commands [][]string) error {
	for _, c := range commands {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		out, err := exec.CommandContext(ctx, c[0], c[1:]...).CombinedOutput()
		cancel()
		if err != nil {
			return fmt.Errorf("%w %s: %s: %w: %s", ErrConfigure, ifname, strings.Join(c, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// TakesSource returns false: this system has no way to ask.
func TakesSource(netip.Addr) (bool, error) { return false, nil }
