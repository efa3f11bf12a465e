package main

import "context"

// followClients lets the containers of a bridge see the addresses of those who
// call them, as far as this host can. What it cannot is told by status, and is
// no reason not to serve.
func (f *front) followClients(bridge string) {
	if bridge == f.bridge {
		return
	}
	f.bridge = bridge
	if err := f.path.Setup(f.ctx, bridge); err != nil {
		f.log.Warn("containers see the edge's address in the place of their callers'", "err", err)
	}
}

// watchClients repairs what others take away, until ctx ends.
func (f *front) watchClients(ctx context.Context) error {
	err := f.path.Watch(ctx, func(err error) {
		if err != nil {
			f.log.Warn("containers see the edge's address in the place of their callers'", "err", err)
			return
		}
		f.log.Info("containers see their callers' addresses again")
	})
	if err != nil { // only root may listen
		f.log.Warn("what others take away of clients' addresses is not repaired", "err", err)
	}
	return nil
}

// forgetClients leaves the host as it was found.
func (f *front) forgetClients() {
	if err := f.path.Close(context.WithoutCancel(f.ctx)); err != nil {
		f.log.Error("rules are left behind", "err", err)
	}
}
