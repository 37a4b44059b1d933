package stream

import (
	"testing"
	"time"
)

// exchange opens one stream over a line, sends so many bytes each way, and checks that all
// arrives, that both ends are closed, and that nothing is left.
func exchange(t *testing.T, seed uint64, l line, up, down int, limit time.Duration) (w *world, a, b *app) {
	t.Helper()
	w = newWorld(t, seed, l)
	b = &app{salt: 2, wants: 1, write: down, half: true}
	w.sides[1].serve = func(*Stream) *app { return b }
	a = w.sides[0].dial(&app{salt: 1, wants: 2, write: up, half: true})
	w.run(limit, func() bool { return a.closed && b.closed })
	if a.got != down || b.got != up || a.err != nil || b.err != nil {
		t.Errorf("seed %d: got %d of %d and %d of %d bytes, errors %v and %v", seed, b.got, up, a.got, down, a.err, b.err)
	}
	w.empty()
	return w, a, b
}

func TestTransfer(t *testing.T) {
	for name, c := range map[string]struct {
		l        line
		up, down int
		limit    time.Duration
	}{
		"nothing":      {line{delay: 10 * ms}, 0, 0, time.Second},
		"one byte":     {line{delay: 10 * ms}, 1, 1, time.Second},
		"up":           {line{delay: 10 * ms}, 8 << 20, 0, 10 * time.Second},
		"down":         {line{delay: 10 * ms}, 0, 8 << 20, 10 * time.Second},
		"both":         {line{delay: 10 * ms, rate: 4 << 20, backlog: 40 * ms}, 3 << 20, 3 << 20, 5 * time.Second},
		"no delay":     {line{}, 4 << 20, 4 << 20, time.Second},
		"1 % loss":     {line{delay: 10 * ms, loss: 0.01}, 4 << 20, 1 << 20, 20 * time.Second},
		"5 % loss":     {line{delay: 10 * ms, loss: 0.05}, 2 << 20, 2 << 20, 30 * time.Second},
		"30 % loss":    {line{delay: 10 * ms, loss: 0.3}, 256 << 10, 256 << 10, 120 * time.Second},
		"twice":        {line{delay: 10 * ms, twice: 0.5}, 2 << 20, 2 << 20, 10 * time.Second},
		"reordering":   {line{delay: 10 * ms, jitter: 20 * ms}, 2 << 20, 2 << 20, 20 * time.Second},
		"all at once":  {line{delay: 10 * ms, jitter: 15 * ms, twice: 0.2, loss: 0.1}, 512 << 10, 512 << 10, 60 * time.Second},
		"2 s":          {line{delay: 2 * time.Second}, 4 << 20, 4 << 20, 120 * time.Second},
		"2 s and loss": {line{delay: 2 * time.Second, loss: 0.02}, 256 << 10, 256 << 10, 600 * time.Second},
		"slow":         {line{delay: 50 * ms, rate: 20 << 10, backlog: 300 * ms}, 200 << 10, 20 << 10, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2) {
				exchange(t, seed, c.l, c.up, c.down, c.limit)
			}
		})
	}
}
