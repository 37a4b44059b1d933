package platform

import (
	"fmt"
	"os"
	"syscall"
)

// InJournal reports whether what is written to a file goes to systemd's journal, as systemd.exec(5)
// says by $JOURNAL_STREAM. Programs that a service started inherit the variable, but may have
// another output.
func InJournal(f *os.File) bool {
	stream := os.Getenv("JOURNAL_STREAM")
	if stream == "" {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && stream == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}
