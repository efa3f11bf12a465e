package schema

// The raw types are the files as they were written, with the schema's own
// defaults. They exist so that a Fleet needs no JSON tags and no pointers.

type rawSwage struct {
	ID                 string
	Domain             string
	ContainerImage     string `json:"container_image"`
	DefaultPermissions string `json:"default_permissions"`
	Prune              struct{ Max int }
}

type rawServer struct {
	Listen      []string
	Network     struct{ Bridge string }
	StoragePool string `json:"storage_pool"`
	Incus       struct {
		ProjectPrefix string `json:"project_prefix"`
		ImageServer   string `json:"image_server"`
	}
}

type rawFile struct {
	Project     *struct{ ID string }
	Containers  map[string]rawContainer
	Aliases     map[string]rawAlias
	Permissions *rawPermissions
}

type rawContainer struct {
	ID              string
	Server          string
	ContainerImage  string            `json:"container_image"`
	EnvironmentVars map[string]string `json:"environment_vars"`
	State           string
}

type rawAlias struct {
	Container         string
	Program           string
	Port              uint16
	TargetPath        string `json:"target_path"`
	AllowPathOverride bool   `json:"allow_path_override"`
	Enabled           bool
	ExpiresAt         string `json:"expires_at"`
}

type rawPermissions struct {
	Groups map[string]struct {
		Range  string
		Ranges []string
	}
	Permissions map[string]map[string]any
	Default     string
}

type rawProject struct {
	id          string
	containers  map[string]declared[rawContainer]
	aliases     map[string]declared[rawAlias]
	permissions *declared[rawPermissions]
}

// declared is an object with the place of its declaration.
type declared[T any] struct {
	pos Pos
	raw T
}
