package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/reprise-run/reprise/events"
)

// A sealed value is a JSON string of this beginning, a nonce and a ciphertext, all
// of which is also valid base64: a Secret's data decodes, sealed or not. Its length
// is a multiple of four for that.
const mark = "sealed/v001/"

var sealedStart = []byte(`"` + mark)

func isSealed(value []byte) bool { return bytes.HasPrefix(value, sealedStart) }

// hasSealed says whether a document may have a sealed value.
func hasSealed(doc []byte) bool { return bytes.Contains(doc, sealedStart) }

// The first byte of what is encrypted says what the rest is.
const (
	asJSON   = 0 // a JSON value
	asBase64 = 1 // bytes, for a string that is their base64
)

// keySize is that of an object's key and of a cluster key.
const keySize = 32

// objectKey seals the values of one object.
//
// A value is sealed by XChaCha20-Poly1305 with a nonce that is an HMAC, under a
// key of its own, of the object, the place and the value. So an equal value at the
// same place of the same object is sealed to the same bytes, and only that: a
// nonce comes again only with the very text that it was used for before, or by a
// collision of 192 random bits. Object and place are authenticated too, so that a
// value opens nowhere else.
type objectKey struct {
	aead  cipher.AEAD
	nonce []byte
	bound []byte // what says which object it is
}

func newObjectKey(secret []byte, r events.Ref, uid string) (*objectKey, error) {
	encryption, err := hkdf.Expand(sha256.New, secret, "reprise seal v1 encryption", chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	nonce, err := hkdf.Expand(sha256.New, secret, "reprise seal v1 nonce", sha256.Size)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(encryption)
	if err != nil {
		return nil, err
	}
	return &objectKey{aead: aead, nonce: nonce, bound: bind(r, uid)}, nil
}

// bind is an unambiguous text of an object's identity.
func bind(r events.Ref, uid string) []byte {
	b, err := json.Marshal([]string{r.Group, r.Resource, r.Namespace, r.Name, uid})
	if err != nil {
		panic(fmt.Sprintf("strings cannot be encoded: %v", err))
	}
	return b
}

// place is what a value at a path is bound to.
func (k *objectKey) place(path string) []byte {
	return append(append(bytes.Clone(k.bound), 0), path...)
}

// seal returns a value in its sealed form.
func (k *objectKey) seal(path string, value []byte) []byte {
	text := pad(plain(value))
	place := k.place(path)
	mac := hmac.New(sha256.New, k.nonce)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(place))))
	mac.Write(place)
	mac.Write(text)
	nonce := mac.Sum(nil)[:chacha20poly1305.NonceSizeX]

	sealed := make([]byte, len(nonce), len(nonce)+len(text)+k.aead.Overhead())
	copy(sealed, nonce)
	sealed = k.aead.Seal(sealed, nonce, text, place)
	out := make([]byte, 0, len(sealedStart)+base64.StdEncoding.EncodedLen(len(sealed))+1)
	out = append(out, sealedStart...)
	out = base64.StdEncoding.AppendEncode(out, sealed)
	return append(out, '"')
}

// errAltered says that a sealed value is not as it was sealed, or not where.
var errAltered = errors.New("the sealed value was altered, or belongs to another object or place")

// open undoes seal.
func (k *objectKey) open(path string, sealed []byte) ([]byte, error) {
	if !isSealed(sealed) || sealed[len(sealed)-1] != '"' {
		return nil, errAltered
	}
	raw, err := base64.StdEncoding.Strict().AppendDecode(nil, sealed[len(sealedStart):len(sealed)-1])
	if err != nil || len(raw) < chacha20poly1305.NonceSizeX {
		return nil, errAltered
	}
	nonce, rest := raw[:chacha20poly1305.NonceSizeX], raw[chacha20poly1305.NonceSizeX:]
	text, err := k.aead.Open(rest[:0], nonce, rest, k.place(path))
	if err != nil {
		return nil, errAltered
	}
	end := bytes.LastIndexByte(text, padding)
	if end < 1 {
		return nil, errAltered
	}
	switch text[0] {
	case asJSON:
		return bytes.Clone(text[1:end]), nil
	case asBase64:
		out := append(make([]byte, 0, 2+base64.StdEncoding.EncodedLen(end-1)), '"')
		return append(base64.StdEncoding.AppendEncode(out, text[1:end]), '"'), nil
	}
	return nil, fmt.Errorf("%w, or was sealed by a newer version of reprise", errAltered)
}

// plain is a value as it is encrypted: base64, of which most sealed values are,
// would otherwise grow twice.
func plain(value []byte) []byte {
	if n := len(value); n > 2 && value[0] == '"' && n%4 == 2 {
		text := make([]byte, 1, n)
		text[0] = asBase64
		if text, err := base64.StdEncoding.Strict().AppendDecode(text, value[1:n-1]); err == nil && !bytes.ContainsAny(value, "\\\r\n") {
			return text
		}
	}
	return append([]byte{asJSON}, value...)
}

const (
	padding = 0x80
	block   = 32
)

// pad hides the exact length of short values: a mark, and zeros up to a multiple
// of 32 bytes.
func pad(text []byte) []byte {
	text = append(text, padding)
	return append(text, make([]byte, (block-len(text)%block)%block)...)
}
