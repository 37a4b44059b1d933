package platform

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// tfdCancelOnSet is TFD_TIMER_CANCEL_ON_SET of linux/timerfd.h.
const tfdCancelOnSet = 1 << 1

// sleptFor is how much longer than the clock that stops in sleep the one that counts it must have
// run for a sleep.
const sleptFor = time.Second

// Sleeps calls woke each time that the machine has slept, with how long, until ctx ends.
//
// The kernel ends the wait for a timer with a flag whenever the wall clock jumps, which it does
// when the machine resumes. That costs one descriptor, and no wake-up otherwise. The D-Bus signal
// of logind would come before the sleep as well, when there is nothing to do, and not at all
// without logind or in a container.
func Sleeps(ctx context.Context, woke func(time.Duration)) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("noticing sleep: %w", os.NewSyscallError("timerfd_create", err))
	}
	f := os.NewFile(uintptr(fd), "timerfd")
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	behind := asleep()
	for {
		if err := armJump(f); err != nil {
			return ended(ctx, err)
		}
		var expired [8]byte
		if _, err := f.Read(expired[:]); err != nil && !errors.Is(err, unix.ECANCELED) {
			return ended(ctx, err)
		}
		now := asleep()
		if d := now - behind; d >= sleptFor {
			woke(d)
		}
		behind = now
	}
}

// ended returns nil if a wait failed since ctx has ended.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("noticing sleep: %w", err)
}

// armJump sets the timer to a time that never comes.
func armJump(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: math.MaxInt32}}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|tfdCancelOnSet, &never, nil)
	})
	if errors.Is(set, unix.ECANCELED) { // the clock has just jumped; the timer is set all the same
		set = nil
	}
	return errors.Join(err, set)
}

// asleep returns how long the machine has slept since it was started.
func asleep() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) != nil {
		return 0
	}
	return BootTime() - time.Duration(t.Nano())
}
