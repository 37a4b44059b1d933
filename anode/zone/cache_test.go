package zone

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"anodenet/anode"
)

func TestCache(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	checked := time.Unix(1796000000, 0)
	if got, at, err := c.Load(testZone); got != (Copy{}) || !at.IsZero() || err != nil {
		t.Errorf("without one: %v, %v, %v", got, at, err)
	}
	for _, want := range []Copy{
		{mustParse(t, good), byIP, `"abc def"`, "Sat, 28 Nov 2026 12:00:00 GMT", time.Time{}, Lower{checked, 2}},
		{File: mustParse(t, ";anode is a word\nn=x")},
	} {
		if err := c.Save(testZone, want); err != nil {
			t.Fatal(err)
		}
		if err := c.Touch(testZone, checked); err != nil {
			t.Fatal(err)
		}
		got, at, err := c.Load(testZone)
		if err != nil || !at.Equal(checked) {
			t.Fatal(at, err)
		}
		equal(t, got.File.Name(), want.File.Name())
		got.File, want.File = nil, nil
		equal(t, got, want)
	}
	info, err := os.Stat(filepath.Join(c.Dir, "zone-c0000201"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
}

// What a file of ours says is read as it was, and nothing of it is taken for ours.
func TestCacheKeepsTheFile(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	if err := c.Save(testZone, Copy{File: mustParse(t, good), Source: byIP}); err != nil {
		t.Fatal(err)
	}
	got, _, err := c.Load(testZone)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, string(got.File.Bytes()), good)
	// The file may begin with comments that look like ours.
	posing := ";anode etag \"theirs\"\n;anode file\n;anode source http://192.0.2.66/z\nn=x\n"
	if err := c.Save(testZone, Copy{File: mustParse(t, posing), Source: byIP}); err != nil {
		t.Fatal(err)
	}
	if got, _, err = c.Load(testZone); err != nil || string(got.File.Bytes()) != posing || got.Source != byIP || got.ETag != "" {
		t.Errorf("got %+v, %v", got, err)
	}
	// An ETag of a server that would end the line is left out.
	if err := c.Save(testZone, Copy{File: mustParse(t, good), ETag: "x\n;anode source y"}); err != nil {
		t.Fatal(err)
	}
	if got, _, err = c.Load(testZone); err != nil || got.Source != "" || got.ETag != "" {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestCacheDamaged(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	for _, text := range []string{"", "<html>", "n=\x00", ";anode etag 5\n"} {
		if err := os.WriteFile(filepath.Join(c.Dir, "zone-c0000201"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, _, err := c.Load(testZone); err == nil || got != (Copy{}) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestCacheKeepsNothing(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []Cache{{}, {Dir: dir, ReadOnly: true}} {
		if err := c.Save(testZone, Copy{File: mustParse(t, good)}); err != nil {
			t.Error(err)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	if err := (Cache{Dir: filepath.Join(dir, "none")}).Save(testZone, Copy{File: mustParse(t, good)}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// Files of zones that nobody uses any more do not fill the disk, and nothing else goes.
func TestCacheTrims(t *testing.T) {
	c := Cache{Dir: t.TempDir()}
	other := filepath.Join(c.Dir, "zone-notes")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range maxCached + 3 {
		z := anode.Zone(i + 1)
		if err := c.Save(z, Copy{File: mustParse(t, fmt.Sprintf("n=%d", i))}); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(i+1), 0)
		if i < maxCached { // the last ones are the youngest
			if err := os.Chtimes(c.path(z), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	list, err := os.ReadDir(c.Dir)
	if err != nil || len(list) != maxCached+1 {
		t.Errorf("%d files, %v", len(list), err)
	}
	for z := range anode.Zone(maxCached + 3) {
		_, err := os.Stat(c.path(z + 1))
		equal(t, err == nil, z >= 3)
	}
	if _, err := os.Stat(other); err != nil {
		t.Error(err)
	}
}

func TestPace(t *testing.T) {
	var p Pace
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		equal(t, p.Failed(0), want*time.Minute)
	}
	equal(t, p.Found(time.Hour, 0), time.Hour)
	equal(t, p.Failed(0.5), 63*time.Second)
	equal(t, p.Found(time.Hour, 0.5), 63*time.Minute)
	p.First = 2 * time.Second
	for _, want := range []time.Duration{2, 4, 8, 16, 32, 64} {
		equal(t, p.Failed(0), want*time.Second)
	}
	for range 1000 {
		p.Failed(0)
	}
	equal(t, p.Failed(0), time.Hour)
}
