package platform

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestInJournal: only the very stream that the variable names is the journal.
func TestInJournal(t *testing.T) {
	files := make([]*os.File, 2)
	for k := range files {
		f, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[k] = f
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(int(files[0].Fd()), &st); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string]bool{"": false, "8:1": false, "x": false, fmt.Sprintf("%d:%d", st.Dev, st.Ino): true} {
		t.Setenv("JOURNAL_STREAM", stream)
		if got := InJournal(files[0]); got != want {
			t.Errorf("%q: %v", stream, got)
		}
		if InJournal(files[1]) {
			t.Errorf("%q: the other file", stream)
		}
	}
	files[0].Close()
	if InJournal(files[0]) {
		t.Error("a file that is closed")
	}
}
