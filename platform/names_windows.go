package platform

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// The Name Resolution Policy Table: a key for each rule ([MS-GPNRPT] 2.2.2). Rules of the group
// policy, if there are any, hide these.
const (
	nrptRules  = `SYSTEM\CurrentControlSet\Services\Dnscache\Parameters\DnsPolicyConfig`
	nrptPolicy = `SOFTWARE\Policies\Microsoft\Windows NT\DNSClient\DnsPolicyConfig`
	// nrptRule is ours, a UUID that nobody else has made.
	nrptRule = nrptRules + `\{6d1e0c6e-64a5-4a0f-9d52-0b1c5e0a7a3f}`
	// nrptGeneric says that the rule names the servers for its domains.
	nrptGeneric = 8
	nrptVersion = 1
	nrptMark    = "made by anode, process "
)

// policyTable is a nameStore: one rule. It stays when the process is killed, and when the machine
// is started again. The mark says whose it is.
type policyTable struct{}

// NewNames returns the one of this system.
func NewNames(log *slog.Logger) Names {
	return &storedNames{log: log, manager: "NRPT", store: policyTable{}, refuses: func(s netip.AddrPort) string {
		if s.Port() != 53 {
			return fmt.Sprintf("Windows asks DNS servers on port 53 only, and ours is on port %d", s.Port())
		}
		return ""
	}}
}

func (policyTable) apply(s NameSettings) (err error) {
	if hidden() {
		return errors.New("names: group policy has rules for names, which hide all others; try: the administrator of the domain adds one")
	}
	k, _, err := registry.CreateKey(registry.LOCAL_MACHINE, nrptRule, registry.SET_VALUE)
	if err != nil {
		return fmt.Errorf("names: %w", err)
	}
	defer k.Close()
	domains := make([]string, len(s.Domains))
	for i, d := range s.Domains {
		domains[i] = "." + d
	}
	return errors.Join(
		k.SetStringValue("Comment", nrptMark+strconv.Itoa(os.Getpid())),
		k.SetDWordValue("Version", nrptVersion),
		k.SetStringsValue("Name", domains),
		k.SetStringValue("GenericDNSServers", s.Server.Addr().String()),
		k.SetDWordValue("ConfigOptions", nrptGeneric),
	)
}

// hidden reports whether the group policy has rules.
func hidden() bool {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, nrptPolicy, registry.ENUMERATE_SUB_KEYS)
	if err != nil {
		return false
	}
	defer k.Close()
	names, err := k.ReadSubKeyNames(1)
	return err == nil && len(names) > 0
}

func (policyTable) revert() error {
	if err := registry.DeleteKey(registry.LOCAL_MACHINE, nrptRule); err != nil && !errors.Is(err, registry.ErrNotExist) {
		return fmt.Errorf("names: %w", err)
	}
	return nil
}

// cleanupNames removes what a killed node left.
func cleanupNames() ([]string, error) {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, nrptRule, registry.QUERY_VALUE)
	if errors.Is(err, registry.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("names: %w", err)
	}
	comment, _, err := k.GetStringValue("Comment")
	k.Close()
	pid, bad := strconv.Atoi(strings.TrimPrefix(comment, nrptMark))
	if err == nil && bad == nil && processLives(pid) {
		return nil, nil
	}
	if err := (policyTable{}).revert(); err != nil {
		return nil, err
	}
	return []string{"the rule for names in the registry"}, nil
}

// processLives reports whether a process runs.
func processLives(pid int) bool {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return errors.Is(err, windows.ERROR_ACCESS_DENIED)
	}
	defer windows.CloseHandle(h)
	const stillActive = 259
	var code uint32
	return windows.GetExitCodeProcess(h, &code) == nil && code == stillActive
}
