//go:build !linux

package platform

import "os"

// InJournal reports whether what is written to a file goes to systemd's journal, which is Linux's.
func InJournal(*os.File) bool { return false }
