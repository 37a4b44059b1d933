package main

import (
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPortUsers finds a socket of this test's own, in both families.
func TestPortUsers(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		c, err := net.ListenPacket("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		port := uint16(c.LocalAddr().(*net.UDPAddr).Port)
		users, err := machineFacts{}.port(port)
		c.Close()
		if err != nil || len(users) != 1 {
			t.Fatalf("%s: %v, %v", address, users, err)
		}
		u := users[0]
		if u.local.String() != c.LocalAddr().String() || u.uid != os.Getuid() || u.pid != os.Getpid() || u.name == "" {
			t.Errorf("%s: %+v", address, u)
		}
	}
}

func TestParseStat(t *testing.T) {
	for line, want := range map[string]string{
		"12 (anode) S 1 12": "S", "12 (a) b (c)) T 1": "T", "": "", "12 (x": "",
	} {
		if state := parseStat(line); state != want {
			t.Errorf("%q: %q", line, state)
		}
	}
	if processState(os.Getpid()) == "" {
		t.Error("the state of this process is not known")
	}
}

// TestLocker finds the lock of this test's own.
func TestLocker(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if pid, err := (machineFacts{}).locker(f.Name()); err != nil || pid != 0 {
		t.Errorf("without a lock: %d, %v", pid, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if pid, err := (machineFacts{}).locker(f.Name()); err != nil || pid != os.Getpid() {
		t.Errorf("with one: %d, %v", pid, err)
	}
}

func FuzzParseLocks(f *testing.F) {
	f.Add("1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF\n", uint32(0xfd), uint32(1), uint64(5678))
	f.Fuzz(func(t *testing.T, text string, major, minor uint32, inode uint64) {
		if pid, err := parseLocks(strings.NewReader(text), major, minor, inode); pid != 0 && err == nil && !strings.Contains(text, "FLOCK") {
			t.Errorf("PID %d", pid)
		}
	})
}

func TestRightsOfThisProcess(t *testing.T) {
	r, err := machineFacts{}.rights()
	if err != nil || r.root != (os.Geteuid() == 0) {
		t.Errorf("%+v, %v", r, err)
	}
}
