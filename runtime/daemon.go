package runtime

// Daemon is where an engine is reached.
type Daemon struct {
	Socket string // unix socket; empty, and Remote too: as the process was told
	Remote string // https address, in the place of Socket

	// Certificate is the one that Remote has, in PEM. Empty: one that this
	// host's authorities vouch for.
	Certificate string
}

// Peer is another server of the fleet, which containers can be copied from.
type Peer struct {
	Server string
	Daemon Daemon // by Remote
}

// Origin is a container or an archive of a peer, at a snapshot or as it is.
type Origin struct {
	Peer      Peer
	Container string // project/name
	Archive   ID     // in the place of Container
	Snapshot  string // empty: as it is
}

// Name is what people call it.
func (o Origin) Name() string {
	if o.Archive != "" {
		return o.Peer.Server + ":" + string(o.Archive)
	}
	return o.Peer.Server + ":" + o.Container
}
