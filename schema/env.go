package schema

import (
	"errors"
	"fmt"
	"strings"
)

// CheckEnv holds the revealed value of an environment variable to what a plain
// one must be: the first program would see another otherwise. Its errors hold
// no part of the value.
func CheckEnv(value string) error {
	switch {
	case value == "":
		return errors.New("its value is empty; leave the variable out")
	case len(value) > maxEnv:
		return fmt.Errorf("its value has %d bytes; a value may have %d", len(value), maxEnv)
	case strings.ContainsAny(value, "\x00\n\r"):
		return errors.New("its value has several lines; put such a secret into a file of the container")
	case strings.HasSuffix(value, " "), strings.HasSuffix(value, "\t"):
		return errors.New("its value ends with a blank, which would be lost")
	}
	return nil
}

// maxEnv is how many bytes the value of a variable may have.
const maxEnv = 32 << 10
