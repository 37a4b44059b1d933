package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestProfileCPU(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cpu.pprof")
	stop, err := profileCPU(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := profileCPU(file + "2"); err == nil {
		t.Error("a second profile began beside the first")
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// The format is gzip, and nothing of it is written before the end.
	if got, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(got, []byte{0x1f, 0x8b}) {
		t.Errorf("the profile begins with %x, %v; want gzip's 1f8b", got[:min(2, len(got))], err)
	}
	if _, err := profileCPU(filepath.Join(t.TempDir(), "no", "folder")); err == nil {
		t.Error("a profile was begun in a folder that is not there")
	}
}
