package schema

// Node is what an agent must know before it has a repository.
type Node struct {
	Server string
	Source struct {
		Path   string
		Branch string
	}
	StateDir string `json:"state_dir"`
	Socket   string
	Incus    struct{ Socket string }
}
