package pebble

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// tables writes keys that ascend into tables of a moderate size.
type tables struct {
	fs    vfs.FS
	path  string
	opts  sstable.WriterOptions
	most  int      // bytes of keys and values in one, before they are compressed
	paths []string // of those that were begun
	w     *sstable.Writer
	bytes int
}

func (t *tables) set(key, value []byte) error {
	if err := t.room(len(key) + len(value)); err != nil {
		return err
	}
	return t.w.Set(key, value)
}

func (t *tables) delete(key []byte) error {
	if err := t.room(len(key)); err != nil {
		return err
	}
	return t.w.Delete(key)
}

// room sees that there is a table to write into.
func (t *tables) room(n int) error {
	if t.w != nil && t.bytes+n > t.most {
		if err := t.next(); err != nil {
			return err
		}
	}
	t.bytes += n
	if t.w != nil {
		return nil
	}
	path := fmt.Sprintf("%s-%d.sst", t.path, len(t.paths))
	file, err := t.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	// So that what is written does not wait for the last moment.
	file = vfs.NewSyncingFile(file, vfs.SyncingFileOptions{BytesPerSync: 512 << 10})
	t.paths = append(t.paths, path)
	t.w = sstable.NewWriter(objstorageprovider.NewFileWritable(file), t.opts)
	return nil
}

// next ends the table: what comes goes into another one.
func (t *tables) next() error {
	err := t.close()
	t.w, t.bytes = nil, 0
	return err
}

// close makes durable what was written.
func (t *tables) close() error {
	if t.w == nil {
		return nil
	}
	w := t.w
	t.w = nil
	return w.Close()
}
