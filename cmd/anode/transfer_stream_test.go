package main

import (
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestDeadline: one that passes ends the connection, and is the reason that is told; one that
// is moved or taken back does not.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := 0
		d := deadline{over: func() { ended++ }}
		d.set(time.Time{})
		d.set(time.Now().Add(time.Second))
		d.set(time.Now().Add(3 * time.Second))
		time.Sleep(2 * time.Second)
		d.set(time.Time{})
		time.Sleep(time.Hour)
		if err := d.explain(io.EOF); ended != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("ended %d times, %v", ended, err)
		}
		d.set(time.Now().Add(time.Second))
		time.Sleep(time.Second + 1)
		synctest.Wait()
		if err := d.explain(io.EOF); ended != 1 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("ended %d times, %v", ended, err)
		}
		if err := d.explain(nil); err != nil {
			t.Error(err)
		}
	})
}
