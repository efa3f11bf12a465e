package schema

import (
	"regexp"
	"strings"
)

var (
	plainImage = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)+$`)
	release    = regexp.MustCompile(`^(images:)?([A-Za-z]+)[ :@/_-]?v?([0-9][0-9.]*|latest|edge)?$`)
)

// codenames are what people call releases by.
var codenames = map[string]string{
	"bookworm": "debian/12", "trixie": "debian/13", "jammy": "ubuntu/22.04", "noble": "ubuntu/24.04",
	"debian": "debian/13", "ubuntu": "ubuntu/24.04", "alpine": "alpine/3.22", "fedora": "fedora/42",
}

// likelyImage guesses what "ubuntu:22.04", "Debian 13" or "bookworm" mean.
func likelyImage(text string) (string, bool) {
	last := text[strings.LastIndexAny(text, ":-/ ")+1:]
	if image, ok := codenames[strings.ToLower(last)]; ok {
		return image, true
	}
	m := release.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	os := strings.ToLower(m[2])
	if m[3] == "" || m[3] == "latest" {
		image, ok := codenames[os]
		return image, ok
	}
	image := os + "/" + m[3]
	return image, plainImage.MatchString(image)
}
