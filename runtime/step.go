package runtime

import (
	"fmt"
	"time"
)

// Step is one change to what runs. A plan is an ordered list of them.
type Step interface {
	fmt.Stringer
	// Effect says what the step does to what runs now.
	Effect() Effect
	// Container is the container that the step changes; its zero value for
	// steps that change something else.
	Container() Container
}

// Effect is what a step does to what runs now.
type Effect string

// The effects, from harmless to final.
const (
	Live    Effect = "live"    // nothing that runs is interrupted
	Restart Effect = "restart" // the container stops and starts again
	Stop    Effect = "stop"    // the container stops or pauses
	Destroy Effect = "destroy" // data is gone
)

type (
	// CreateProject makes a project.
	CreateProject struct{ Project Project }
	// DeleteProject removes a project that has nothing left.
	DeleteProject struct{ Project Project }

	// CreateContainer makes a container from its image, and brings it to its
	// Status. An empty ID is drawn by the Runtime, here as in all that make one.
	CreateContainer struct {
		New   Container
		Fresh bool // ask the image server even when the image is here
	}
	// CopyContainer makes a container from another or from an archive. Image
	// and Kit are those of the source.
	CopyContainer struct {
		New      Container
		From     ID
		Of       string  // project/container of From, for people
		Snapshot string  // empty: as it is
		Origin   *Origin // on another server, in the place of From and Snapshot
	}
	// ClaimContainer makes a spare into the container without a restart:
	// services and sessions that begin from then on see its environment, init
	// after the next restart. Image and Kit are those of
	// the spare.
	ClaimContainer struct {
		New   Container
		Spare Spare
	}
	// AdoptContainer marks an instance that is not ours; it is not changed.
	AdoptContainer struct {
		New      Container
		Instance string // see Runtime.Inspect
	}

	// UpdateContainer makes From equal to To in everything but Project,
	// Image, Kit and Status; if it Restarts, it runs afterwards. The ID of both
	// is the same.
	UpdateContainer struct{ From, To Container }
	// MoveContainer puts a container into another project, under another name
	// or the same; afterwards it does what From did.
	MoveContainer struct{ From, To Container }

	// StartContainer starts a stopped container. Of its Target these four
	// write Asked, Commit and Applied, nothing else.
	StartContainer struct{ Target Container }
	// StopContainer stops a container; a paused one is stopped by force.
	StopContainer struct{ Target Container }
	// PauseContainer freezes a running container; a stopped one is an error.
	PauseContainer struct{ Target Container }
	// ResumeContainer lets a paused container go on; a stopped one is an error.
	ResumeContainer struct{ Target Container }

	// DeleteContainer stops a container. With Archives, or if it has snapshots,
	// it becomes an archive: stopped, its disk as it is then, without environment,
	// keys, addresses and ports of the host. Else it is removed with its data.
	DeleteContainer struct {
		Target   Container
		Archives bool
		Keep     time.Duration // of the archive, from now on; see Archive.Until
	}
	// RestoreContainer makes an archive the container that it was, with its data.
	// Project, Image and Kit of New are those of the archive.
	RestoreContainer struct{ New Container }
	// DeleteArchive removes an archive with its snapshots.
	DeleteArchive struct{ Archive Archive }
	// TakeSnapshot takes one. It is done if there is one of that name.
	TakeSnapshot struct {
		Of       ID
		Ref      string    // of the container, for people
		Snapshot string    // see SnapshotName
		Expires  time.Time // zero: never
	}
	// ExpireSnapshot gives a snapshot another end.
	ExpireSnapshot struct {
		Of       ID
		Ref      string
		Snapshot string
		Expires  time.Time // zero: never
	}
	// DeleteSnapshot removes one snapshot.
	DeleteSnapshot struct {
		Of       ID
		Ref      string // of the container or archive, for people
		Snapshot string
	}

	// CreateSpare makes and starts a container of the warm pool.
	CreateSpare struct{ Spare Spare }
	// DeleteSpare removes one.
	DeleteSpare struct{ Spare Spare }
)

// Restarts reports whether the update interrupts what runs, frozen or not: the
// environment of a process and its mounts cannot change under it.
func (s UpdateContainer) Restarts() bool {
	return s.From.Status != Stopped && interrupts(s.From, s.To)
}

func (s CreateProject) Effect() Effect    { return Live }
func (s DeleteProject) Effect() Effect    { return Live }
func (s CreateContainer) Effect() Effect  { return Live }
func (s CopyContainer) Effect() Effect    { return Live }
func (s ClaimContainer) Effect() Effect   { return Live }
func (s AdoptContainer) Effect() Effect   { return Live }
func (s RestoreContainer) Effect() Effect { return Live }
func (s UpdateContainer) Effect() Effect {
	if s.Restarts() {
		return Restart
	}
	return Live
}

func (s MoveContainer) Effect() Effect {
	if s.From.Status != Stopped {
		return Restart
	}
	return Live
}
func (s StartContainer) Effect() Effect  { return Live }
func (s StopContainer) Effect() Effect   { return Stop }
func (s PauseContainer) Effect() Effect  { return Stop }
func (s ResumeContainer) Effect() Effect { return Live }
func (s DeleteContainer) Effect() Effect { return Destroy }
func (s DeleteArchive) Effect() Effect   { return Destroy }
func (s TakeSnapshot) Effect() Effect    { return Live }
func (s ExpireSnapshot) Effect() Effect  { return Live }
func (s DeleteSnapshot) Effect() Effect  { return Destroy }
func (s CreateSpare) Effect() Effect     { return Live }
func (s DeleteSpare) Effect() Effect     { return Live }

func (s CreateProject) Container() Container    { return Container{} }
func (s DeleteProject) Container() Container    { return Container{} }
func (s CreateContainer) Container() Container  { return s.New }
func (s CopyContainer) Container() Container    { return s.New }
func (s ClaimContainer) Container() Container   { return s.New }
func (s AdoptContainer) Container() Container   { return s.New }
func (s RestoreContainer) Container() Container { return s.New }
func (s UpdateContainer) Container() Container  { return s.To }
func (s MoveContainer) Container() Container    { return s.To }
func (s StartContainer) Container() Container   { return s.Target }
func (s StopContainer) Container() Container    { return s.Target }
func (s PauseContainer) Container() Container   { return s.Target }
func (s ResumeContainer) Container() Container  { return s.Target }
func (s DeleteContainer) Container() Container  { return s.Target }
func (s DeleteArchive) Container() Container    { return Container{} }
func (s TakeSnapshot) Container() Container     { return Container{} }
func (s ExpireSnapshot) Container() Container   { return Container{} }
func (s DeleteSnapshot) Container() Container   { return Container{} }
func (s CreateSpare) Container() Container      { return Container{} }
func (s DeleteSpare) Container() Container      { return Container{} }

func (s CreateProject) String() string { return "create project " + s.Project.Name }
func (s DeleteProject) String() string { return "delete project " + s.Project.Name }

func (s CreateContainer) String() string {
	return fmt.Sprintf("create container %s (%s, %s)", s.New.Ref(), s.New.Image, s.New.Status)
}

func (s CopyContainer) String() string {
	at := ""
	if s.Snapshot != "" {
		at = " at " + s.Snapshot
	}
	return fmt.Sprintf("create container %s (copy of %s%s, %s)", s.New.Ref(), s.Of, at, s.New.Status)
}

func (s ClaimContainer) String() string {
	if len(s.New.Env) > 0 {
		return fmt.Sprintf("create container %s (%s, from the warm pool; its first program sees environment_vars after a restart)", s.New.Ref(), s.New.Image)
	}
	return fmt.Sprintf("create container %s (%s, from the warm pool)", s.New.Ref(), s.New.Image)
}

func (s AdoptContainer) String() string {
	return fmt.Sprintf("adopt instance %s as container %s", s.Instance, s.New.Ref())
}

func (s UpdateContainer) String() string {
	return fmt.Sprintf("update container %s: %s", s.From.Ref(), join(s.Changes()))
}

func (s MoveContainer) String() string {
	return fmt.Sprintf("move container %s to %s", s.From.Ref(), s.To.Ref())
}
func (s StartContainer) String() string  { return "start container " + s.Target.Ref() }
func (s StopContainer) String() string   { return "stop container " + s.Target.Ref() }
func (s PauseContainer) String() string  { return "pause container " + s.Target.Ref() }
func (s ResumeContainer) String() string { return "resume container " + s.Target.Ref() }

func (s RestoreContainer) String() string {
	return fmt.Sprintf("restore container %s from its archive (%s, %s)", s.New.Ref(), s.New.Image, s.New.Status)
}

func (s DeleteContainer) String() string {
	switch days := int(s.Keep / (24 * time.Hour)); {
	case s.Archives && days == 1:
		return "delete container " + s.Target.Ref() + ", keep an archive for a day"
	case s.Archives && s.Keep > 0:
		return fmt.Sprintf("delete container %s, keep an archive for %d days", s.Target.Ref(), days)
	case s.Archives:
		return "delete container " + s.Target.Ref() + ", keep its snapshots"
	}
	return "delete container " + s.Target.Ref()
}

func (s DeleteArchive) String() string {
	return fmt.Sprintf("delete the archive of %s/%s (%s)", s.Archive.Project, s.Archive.Name, s.Archive.ID)
}

func (s TakeSnapshot) String() string {
	return fmt.Sprintf("take snapshot %s of %s", s.Snapshot, s.Ref)
}

func (s ExpireSnapshot) String() string {
	if s.Expires.IsZero() {
		return fmt.Sprintf("keep snapshot %s of %s without an end", s.Snapshot, s.Ref)
	}
	return fmt.Sprintf("keep snapshot %s of %s until %s", s.Snapshot, s.Ref, s.Expires.UTC().Format(time.RFC3339))
}

func (s DeleteSnapshot) String() string {
	return fmt.Sprintf("delete snapshot %s of %s", s.Snapshot, s.Ref)
}

func (s CreateSpare) String() string {
	return fmt.Sprintf("create a spare of %s for project %s", s.Spare.Image, s.Spare.Project)
}

func (s DeleteSpare) String() string {
	if s.Spare.Image == "" {
		return "delete a spare of project " + s.Spare.Project + " that does not run"
	}
	return fmt.Sprintf("delete a spare of %s of project %s", s.Spare.Image, s.Spare.Project)
}

// Adopted is the container that the step makes of what Inspect found: what only
// swage keeps of a container is written, the instance itself stays as it is.
func (s AdoptContainer) Adopted(found Container) Container {
	c := s.New
	c.Status, c.Asleep, c.Unwritten = found.Status, false, false
	c.Env, c.Keys, c.Ramdisk = found.Env, found.Keys, found.Ramdisk
	c.Resources, c.Comment = found.Resources, found.Comment
	c.Snapshots.Cron, c.Snapshots.Days = found.Snapshots.Cron, found.Snapshots.Days
	return c
}

// Changes names what the update changes; see Changes.
func (s UpdateContainer) Changes() []string { return Changes(s.From, s.To) }
