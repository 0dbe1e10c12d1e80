package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/turnwise-rl/turnwise/kernels/device"
	"github.com/turnwise-rl/turnwise/trainer/weights"
)

// carried is what a loaded folder holds besides the network, to be written again.
type carried struct {
	// neutral are the keys of config.json that do not change what the network computes.
	neutral map[string]json.RawMessage
	// files are whole files by name.
	files map[string][]byte
}

// valuePrefix begins the names of the value head's tensors.
const valuePrefix = "score."

const (
	configFile     = "config.json"
	generationFile = "generation_config.json"
)

// carriedFiles are copied from a loaded folder to a saved one where they exist.
var carriedFiles = []string{
	generationFile, "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
}

// plainSampling is the generation_config.json of a network made here: an engine that reads it samples
// what was trained.
const plainSampling = "{\n  \"do_sample\": true,\n  \"temperature\": 1.0,\n  \"top_k\": 0,\n  \"top_p\": 1.0\n}\n"

// LoadFolder reads a network that SaveFolder or Hugging Face's tools wrote: a Llama, Qwen2 or Qwen3
// checkpoint in F32, BF16 or F16, in one file or in shards. Settings that this package does not compute
// are errors that name them. The files are mapped, and each tensor goes to the device in pieces. A
// value head that the folder does not have starts at zero; adapters start anew.
func LoadFolder(dev device.Device, dir string, o Options) (*Model, error) {
	m, err := loadFolder(dev, dir, o)
	if err != nil {
		return nil, fmt.Errorf("load network: %w", err)
	}
	return m, nil
}

func loadFolder(dev device.Device, dir string, o Options) (*Model, error) {
	c, neutral, err := readHubConfig(dir)
	if err != nil {
		return nil, err
	}
	from, err := weights.Open(dir)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	layout, err := folderLayout(form{config: c, valueHead: o.ValueHead}, from)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if err := checkTensors(from, layout); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	m, err := newZero(dev, c, o)
	if err != nil {
		return nil, err
	}
	if err := m.read(from, m.parameters[:len(layout)]); err != nil {
		m.Free()
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	m.carried.neutral = neutral
	if m.carried.files, err = readCarried(dir); err != nil {
		m.Free()
		return nil, err
	}
	return m.ready()
}

// folderLayout is what a folder must hold for a form: the base network, and the value head if the
// folder has one.
func folderLayout(f form, from *weights.Folder) ([]span, error) {
	_, scored := from.Lookup("score.weight")
	if scored && !f.valueHead {
		return nil, errors.New("the folder holds a value head (tensor score.weight): ask for one, or take it out")
	}
	f.valueHead = scored
	return f.layout(), nil
}

func readHubConfig(dir string) (Config, map[string]json.RawMessage, error) {
	path := filepath.Join(dir, configFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		return Config{}, nil, err
	}
	c, neutral, err := parseHubConfig(raw)
	if err != nil {
		return Config{}, nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, neutral, nil
}

func readCarried(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range carriedFiles {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files[name] = data
	}
	return files, nil
}

// ReadConfig reads the shape of the network in a folder and nothing else.
func ReadConfig(dir string) (Config, error) {
	c, _, err := readHubConfig(dir)
	if err != nil {
		return Config{}, fmt.Errorf("network's config: %w", err)
	}
	return c, nil
}

// SaveFolder writes the network in Hugging Face layout: config.json, generation_config.json, the
// weights as the options say, and what came with the folder it was loaded from (tokenizer, chat
// template); a network made here has no tokenizer, which is the caller's to add. Adapters are merged
// into the matrices they correct. The folder is made when it does not exist. Each file is replaced as a
// whole, so a reader never sees half of one.
func (m *Model) SaveFolder(dir string, o weights.Options) error {
	return m.saveFolder(dir, o, m.form.valueHead)
}

// SavePolicy is SaveFolder without the value head, for programs that know policies only.
func (m *Model) SavePolicy(dir string, o weights.Options) error {
	return m.saveFolder(dir, o, false)
}

func (m *Model) saveFolder(dir string, o weights.Options, valueHead bool) error {
	if err := m.writeFolder(dir, o, valueHead); err != nil {
		return fmt.Errorf("save network: %w", err)
	}
	return nil
}

func (m *Model) writeFolder(dir string, o weights.Options, valueHead bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	c := m.form.config
	if m.form.lora.targets(headTarget) {
		c.UntiedHead = true // the merged head is not the embedding
	}
	config, err := encodeHubConfig(c, m.carried.neutral, torchType(o.DType))
	if err != nil {
		return err
	}
	tensors, drop := m.merged()
	defer drop()
	if !valueHead {
		tensors = slices.DeleteFunc(tensors, func(t weights.Tensor) bool { return strings.HasPrefix(t.Name, valuePrefix) })
	}
	if err := weights.Save(dir, tensors, o); err != nil {
		return err
	}
	files := map[string][]byte{generationFile: []byte(plainSampling)}
	for name, data := range m.carried.files {
		files[name] = data
	}
	files[configFile] = config
	for name, data := range files {
		if err := replaceFile(filepath.Join(dir, name), data); err != nil {
			return err
		}
	}
	return nil
}

// torchType is PyTorch's name of a type of weights.
func torchType(t weights.DType) string {
	switch t {
	case weights.BF16:
		return "bfloat16"
	case weights.F16:
		return "float16"
	default:
		return "float32"
	}
}

// replaceFile writes a file beside the old one and renames it into place.
func replaceFile(path string, data []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Chmod(0o644), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
