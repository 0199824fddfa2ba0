package blocks_test

import (
	"crypto/sha256"
	"fmt"

	"github.com/minio/highwayhash"
)

// reseal gives the i-th record of block 1 the checksum of what it holds now.
func reseal(records [][]byte, i int) [][]byte { return resealIn(1, records, i) }

// resealIn is reseal in another block.
func resealIn(block int, records [][]byte, i int) [][]byte {
	r := records[i]
	key := sha256.Sum256(fmt.Appendf(nil, "REPRISE-%d", block))
	h, err := highwayhash.New64(key[:])
	if err != nil {
		panic(err)
	}
	subject := int(r[20]) | int(r[21])<<8
	h.Write(r[4:20])
	h.Write(r[22 : 22+subject])
	h.Write(r[22+subject+4 : len(r)-8])
	h.Sum(r[:len(r)-8])
	return records
}
