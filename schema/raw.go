package schema

// The raw types are the files as they were written, with the schema's own
// defaults. They exist so that a Fleet needs no JSON tags and no pointers.

type rawSwage struct {
	ID                 string
	Domain             string
	ContainerImage     string `json:"container_image"`
	DefaultPermissions string `json:"default_permissions"`
	Programs           map[string]rawProgram
	Prune              struct {
		Max     int
		Archive int // days
	}
	Signers  rawSigners
	Drift    string
	Rollback string
	Settle   string
	Parallel int
	Events   struct {
		URL    string
		Secret Secret
	}
}

type rawSigners struct {
	SSH     []string
	OpenPGP []string
}

type rawProgram struct {
	Port         uint16
	Instances    int
	InstanceBase uint16 `json:"instance_base"`
	Slug         string
	Names        []string
	Levels       []string
	HonoursLevel *bool `json:"honours_level"`
	Cache        *bool
}

type rawServer struct {
	Listen          []string
	ProxyProtocol   []string `json:"proxy_protocol"`
	HTTP            []string
	SSH             []string
	PublicAddresses []string `json:"public_addresses"`
	TLS             struct {
		Type      string
		Email     string
		Directory string
		DNS       struct {
			Provider string
			Options  map[string]Secret
		}
		Certificates []Certificate
	}
	Network struct {
		Bridge  string
		Subnets []string
	}
	StoragePool string `json:"storage_pool"`
	Limits      struct {
		Containers *int
		Memory     string
	}
	Incus struct {
		Socket        string
		Remote        string
		Certificate   string
		ProjectPrefix string `json:"project_prefix"`
		ImageServer   string `json:"image_server"`
	}
	Placement     struct{ Member, Group string }
	AgeRecipients []string `json:"age_recipients"`
	Tokens        map[string]rawToken
	Webhooks      map[string]Secret
	Forge         struct {
		Type, URL, Repository string
		Token                 Secret
	}
	Status      struct{ Permissions *rawPermissions }
	Maintenance bool
}

type rawToken struct {
	Value       Secret
	ValueSHA256 string `json:"value_sha256"`
	SSHKey      string `json:"ssh_key"`
	Allow       []string
	Realm       string
	ExpiresAt   string `json:"expires_at"`
}

type rawProject struct {
	ID            string
	Color         string
	Comment       string
	MaxContainers *int     `json:"max_containers"`
	RealmIDs      []string `json:"realm_ids"`
	EnableProxy   *bool    `json:"enable_proxy"`
	Prespawn      []struct {
		ContainerImage string `json:"container_image"`
		Kit            bool
		Count          int
	}
	Protected bool
}

type rawContainer struct {
	ID                string
	Server            string
	ContainerImage    string `json:"container_image"`
	Kit               bool
	EnvironmentVars   map[string]Secret `json:"environment_vars"`
	SSHPublicKey      string            `json:"ssh_public_key"`
	SSHAuthorizedKeys []string          `json:"ssh_authorized_keys"`
	Color             string
	Comment           string
	Autostart         bool
	AI                bool
	Cache             bool
	BypassPrespawn    bool `json:"bypass_prespawn"`
	Ramdisk           bool
	RealmIDs          []string `json:"realm_ids"`
	State             string
	EnableProxy       *bool `json:"enable_proxy"`
	Permissions       *rawPermissions
	Programs          map[string]rawProgram
	Resources         struct {
		CPU    float64
		Memory string
		Disk   string

		Processes int
	}
	Firewall  []rawRule
	Publish   []Publish
	Snapshots struct {
		Schedule string
		Expiry   int // days
		Keep     int
	}
	CopyFrom  *CopyFrom `json:"copy_from"`
	DependsOn []string  `json:"depends_on"`
	Health    *struct {
		Program      string
		Port         uint16
		Index        int
		Path         string
		Interval     string
		Timeout      string
		HealthyAfter int `json:"healthy_after"`
		Deadline     string
	}
	Protected bool
	Adopt     string
}

type rawRule struct {
	Direction       string
	Action          string
	Protocol        string
	Source          string
	Destination     string
	SourcePort      string `json:"source_port"`
	DestinationPort string `json:"destination_port"`
	Description     string
	Enabled         bool
}

type rawAlias struct {
	Container         any // a name, or a list of names
	Program           string
	Port              uint16
	Index             int
	TargetPath        string `json:"target_path"`
	AllowPathOverride bool   `json:"allow_path_override"`
	Paths             map[string]struct {
		Container string
		Program   string
		Port      uint16
		Index     int
	}
	ExpiresAt string `json:"expires_at"`
	Enabled   bool
	Domains   []string
}

type rawPermissions struct {
	Groups      map[string]rawGroup
	Permissions map[string]map[string]any
	Default     string
	Inherit     bool
}

type rawGroup struct {
	Type        string
	Range       string
	Ranges      []string
	Username    string
	Hash        Secret
	Header      string
	Cookie      string
	Param       string
	Value       Secret
	ValueSHA256 string `json:"value_sha256"`
	Algorithm   string
	Secret      Secret
	PublicKey   string `json:"public_key"`
	JWKSURL     string `json:"jwks_url"`
	Sources     []JWTSource
	Claims      map[string]any
	Issuer      string
	Audience    string
	All         []rawMember
}

// rawMember is an entry of all: the name of a group, or a group in place.
type rawMember struct {
	name  string
	group rawGroup
}
