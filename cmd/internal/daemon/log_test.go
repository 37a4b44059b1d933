package daemon

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anodenet/cmd/internal/config"
	"anodenet/cmd/internal/logs"
)

// flaky is an output that fails while it is told to.
type flaky struct {
	mu   sync.Mutex
	text strings.Builder
	gone bool
}

func (f *flaky) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return 0, errors.New("gone")
	}
	return f.text.Write(b)
}

func (f *flaky) leave(gone bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = gone
}

// TestLostLines: lost lines are reported in the log's own format, and counted.
func TestLostLines(t *testing.T) {
	for _, format := range []config.Format{config.FormatText, config.FormatJSON} {
		synctest.Test(t, func(t *testing.T) {
			out := &flaky{gone: true}
			w := logs.New(out, nil)
			log, _ := newLogger(w, config.Log{Format: format, Level: slog.LevelInfo}, nil)
			log.Info("nobody sees this")
			synctest.Wait()
			out.leave(false)
			log.Info("seen")
			w.Close(time.Minute)
			lines := strings.Split(strings.TrimSpace(out.text.String()), "\n")
			if len(lines) != 2 || !strings.Contains(lines[0], "were lost") || !strings.Contains(lines[1], "seen") {
				t.Fatalf("%q", lines)
			}
			if format == config.FormatJSON {
				var report struct{ Lines int }
				if err := json.Unmarshal([]byte(lines[0]), &report); err != nil || report.Lines != 1 {
					t.Errorf("%s: %v", lines[0], err)
				}
			} else if !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[0], "lines=1") {
				t.Errorf("%s", lines[0])
			}
			d := &daemon{options: Options{Log: w}}
			if n := d.counters()["log_lines_lost"]; n != 1 {
				t.Errorf("%d lines are counted", n)
			}
		})
	}
}

// TestForJournal: each line begins with its priority, and has no time; nothing else is changed.
func TestForJournal(t *testing.T) {
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: forJournal}))
	log.Debug("one")
	log.Info("two", "level", "x", "of", slog.LevelWarn)
	log.WithGroup("g").Warn("three", "level", slog.LevelError)
	log.With("k", "v").Error("four")
	want := "<7>level=DEBUG msg=one\n<6>level=INFO msg=two level=x of=WARN\n<4>level=WARN msg=three g.level=ERROR\n<3>level=ERROR msg=four k=v\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}
