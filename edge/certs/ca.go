package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

const (
	// caFile holds key and certificate together, so that there is never one
	// without the other.
	caFile     = "ca.pem"
	caLifetime = 10 * 365 * 24 * time.Hour

	// skew is how far certificates are dated back, for visitors whose clock
	// is slow.
	skew = time.Hour

	pemKey         = "PRIVATE KEY"
	pemCertificate = "CERTIFICATE"
)

// CA is a certificate authority of the server's own. It is never written once
// it is open.
type CA struct {
	key  crypto.Signer
	cert *x509.Certificate
}

// Open returns the authority kept in the folder dir, and makes both when they
// are not there. The file is complete before it gets its name, and never
// overwritten: two processes that open an empty folder at once share one
// authority. A damaged, expired or generally readable file is an error, not
// replaced, since visitors may trust what it held.
func Open(dir string) (*CA, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	path := filepath.Join(dir, caFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		data, err := newAuthority()
		if err == nil {
			err = writeNew(path, data)
		}
		if err != nil {
			return nil, fmt.Errorf("make certificate authority: %w", err)
		}
	}
	ca, err := load(path)
	if err != nil {
		return nil, fmt.Errorf("open certificate authority %s: %w", path, err)
	}
	return ca, nil
}

// PEM returns the authority's certificate, without its key, for visitors to
// trust.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: ca.cert.Raw})
}

func newAuthority() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		// The serial tells the authorities of several servers apart in a
		// list of trusted ones.
		Subject:               pkix.Name{CommonName: fmt.Sprintf("swage CA %x", serial.Bytes()[:4])},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(-skew + caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, block := range []*pem.Block{{Type: pemKey, Bytes: pkcs8}, {Type: pemCertificate, Bytes: cert}} {
		if err := pem.Encode(&out, block); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

func load(path string) (*CA, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others can read the key: mode is %v, want 0600", info.Mode().Perm())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ca := &CA{}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case pemKey:
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, err
			}
			// The concrete type, since any key might not sign.
			ecKey, ok := key.(*ecdsa.PrivateKey)
			if !ok {
				return nil, fmt.Errorf("the key is a %T, want ECDSA", key)
			}
			ca.key = ecKey
		case pemCertificate:
			if ca.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case ca.key == nil:
		return nil, errors.New("no private key in it")
	case ca.cert == nil:
		return nil, errors.New("no certificate in it")
	case !ca.cert.IsCA:
		return nil, errors.New("the certificate is not an authority's")
	case !ca.key.Public().(*ecdsa.PublicKey).Equal(ca.cert.PublicKey):
		return nil, errors.New("key and certificate do not belong together")
	case !time.Now().Before(ca.cert.NotAfter):
		return nil, fmt.Errorf("expired at %v; move it away for a new one", ca.cert.NotAfter)
	}
	return ca, nil
}

// writeNew gives the file its name only once its content is on the disk, and
// leaves a file that is there already as it is.
func writeNew(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, caFile+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(temp.Name())) }()
	_, err = temp.Write(data)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	// Unlike a rename, a link does not replace.
	if err := os.Link(temp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// newSerial returns 127 random bits, positive and of full length (RFC 5280,
// section 4.1.2.2).
func newSerial() (*big.Int, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:]), nil
}
