package weights

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Folder is a set of tensors in open files: those of a Hugging Face folder, or the one file given to Decode. Its methods
// may be called by several goroutines at once.
type Folder struct {
	// AllowNonFinite makes Read return infinities and NaNs instead of refusing them. Set it before the first Read.
	AllowNonFinite bool

	mu     sync.RWMutex // held for reading while contents are looked at, for writing to close them
	closed bool

	files   []content
	tensors map[string]placed
	// order is by file and then by place in it.
	order []Info
	// metadata is what the first file's header carries.
	metadata map[string]string
}

// placed is a tensor and where it is.
type placed struct {
	Info
	content content
	// start and end are offsets in the file, in bytes.
	start, end int64
}

// Open opens the weights of a folder: model.safetensors, or else the shards of model.safetensors.index.json, which is how
// Hugging Face's tools choose. It reads and checks all headers and no tensor. Errors name folder, file and tensor.
func Open(folder string) (*Folder, error) {
	f := &Folder{tensors: map[string]placed{}}
	err := f.openFile(folder, singleName)
	if errors.Is(err, fs.ErrNotExist) {
		err = f.openSharded(folder)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open weights in %s: %w", folder, err), f.Close())
	}
	return f, nil
}

// Decode opens one safetensors file of so many bytes that lies in something else than a folder; name is what errors
// call it. The reader must stay usable until the weights are read; Close does not close it.
func Decode(name string, r io.ReaderAt, size int64) (*Folder, error) {
	f := &Folder{tensors: map[string]placed{}}
	if err := f.add(name, streamed{ReaderAt: r}, size); err != nil {
		return nil, fmt.Errorf("decode weights: %w", err)
	}
	return f, nil
}

func (f *Folder) openFile(folder, name string) error {
	c, size, err := openContent(filepath.Join(folder, name))
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := f.add(name, c, size); err != nil {
		return errors.Join(err, c.close())
	}
	return nil
}

// add reads a file's header. On an error the content stays the caller's.
func (f *Folder) add(name string, c content, size int64) error {
	h, err := readHeader(c, size)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, e := range h.entries {
		if other, ok := f.tensors[e.name]; ok {
			return fmt.Errorf("%s: tensor %s: is in %s too", name, e.name, other.File)
		}
		p := placed{Info{e.name, e.dtype, e.shape, name}, c, h.data + e.start, h.data + e.end}
		f.tensors[e.name] = p
		f.order = append(f.order, p.Info)
	}
	if len(f.files) == 0 {
		f.metadata = h.metadata
	}
	f.files = append(f.files, c)
	return nil
}

// regularSize is the size of a file that is neither a folder nor a device.
func regularSize(file *os.File) (int64, error) {
	stat, err := file.Stat()
	if err != nil {
		return 0, err
	}
	if !stat.Mode().IsRegular() {
		return 0, fmt.Errorf("is a %v, expected a file", stat.Mode().Type())
	}
	return stat.Size(), nil
}

// Tensors lists all tensors in the order in which the files hold them, which is the quickest to read them in.
func (f *Folder) Tensors() []Info {
	out := slices.Clone(f.order)
	for i := range out {
		out[i].Shape = slices.Clone(out[i].Shape)
	}
	return out
}

// Lookup finds a tensor by name.
func (f *Folder) Lookup(name string) (Info, bool) {
	p, ok := f.tensors[name]
	p.Shape = slices.Clone(p.Shape)
	return p.Info, ok
}

// Metadata is the text that the header carries beside the tensors, of the first file when there are several; empty when there is none.
func (f *Folder) Metadata() map[string]string {
	out := map[string]string{}
	maps.Copy(out, f.metadata)
	return out
}

// Read converts a whole tensor to float32, exactly; len(dst) is its number of elements. See ReadRange for the errors.
func (f *Folder) Read(name string, dst []float32) error {
	if p, ok := f.tensors[name]; ok && p.Elements() != len(dst) {
		return fmt.Errorf("tensor %s of %s has shape %v, %d elements, and was to be read into %d", name, p.File, p.Shape, p.Elements(), len(dst))
	}
	return f.ReadRange(name, 0, dst)
}

// ReadRange converts len(dst) elements of a tensor, from the one of index from on in row-major order, to float32,
// exactly. An unknown name, a range beyond the tensor, a dtype other than F32, BF16 and F16 and, unless AllowNonFinite
// is set, a value that is not finite are errors that name tensor, file and element; dst then holds nothing of use.
func (f *Folder) ReadRange(name string, from int, dst []float32) error {
	p, ok := f.tensors[name]
	if !ok {
		return fmt.Errorf("no file of the weights holds a tensor %s", name)
	}
	if !p.DType.Convertible() {
		return fmt.Errorf("tensor %s of %s is %s; convert to F32, BF16 or F16", name, p.File, p.DType)
	}
	if n := p.Elements(); from < 0 || from > n || len(dst) > n-from {
		return fmt.Errorf("tensor %s of %s has %d elements: %d from %d on are beyond it", name, p.File, n, len(dst), from)
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return fmt.Errorf("tensor %s of %s: %w", name, p.File, errClosed)
	}
	width := p.DType.size()
	done := 0
	err := p.content.pieces(p.start+int64(from)*int64(width), int64(len(dst))*int64(width), func(piece []byte) error {
		values := dst[done : done+len(piece)/width]
		if !widen(values, piece, p.DType) && !f.AllowNonFinite {
			i := slices.IndexFunc(values, func(v float32) bool { return !isFinite(v) })
			return fmt.Errorf("element %d is %v, expected a finite number", from+done+i, values[i])
		}
		done += len(values)
		return nil
	})
	if err != nil {
		return fmt.Errorf("tensor %s of %s: %w", name, p.File, err)
	}
	return nil
}

// Close gives the files back, after reads under way. Closing twice does nothing.
func (f *Folder) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	var errs []error
	for _, c := range f.files {
		errs = append(errs, c.close())
	}
	return errors.Join(errs...)
}
