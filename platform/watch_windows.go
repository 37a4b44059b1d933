package platform

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/windows"
)

// Watch calls changed when it has begun to watch, and after addresses or routes may have
// changed: once for each burst of changes, and at least once a second in a long one. It
// returns nil when ctx has ended, or an error when it cannot watch.
func Watch(ctx context.Context, changed func()) error {
	events := make(chan struct{}, 1)
	callback := windows.NewCallback(func(_, _, _ uintptr) uintptr {
		tell(events)
		return 0
	})
	var addresses, routes windows.Handle
	if err := windows.NotifyUnicastIpAddressChange(windows.AF_UNSPEC, callback, nil, false, &addresses); err != nil {
		return fmt.Errorf("watching links: %w", err)
	}
	err := windows.NotifyRouteChange2(windows.AF_UNSPEC, callback, nil, false, &routes)
	if err == nil {
		tell(events) // what changed before
		debounce(ctx, patient, events, changed)
		err = windows.CancelMibChangeNotify2(routes)
	}
	if err = errors.Join(err, windows.CancelMibChangeNotify2(addresses)); err != nil {
		return fmt.Errorf("watching links: %w", err)
	}
	return nil
}
