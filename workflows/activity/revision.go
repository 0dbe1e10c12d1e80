package activity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/turnwise-rl/turnwise/configs"
	"github.com/turnwise-rl/turnwise/internal/blob"
	"github.com/turnwise-rl/turnwise/internal/runfolder"
	"github.com/turnwise-rl/turnwise/workflows"
)

// settings are the values of the config that makes a step.
func (s *session) settings(ctx context.Context, step, revision int) (configs.Run, error) {
	text, err := s.run.folder.ConfigOf(ctx, step, revision)
	if errors.Is(err, blob.ErrNotFound) {
		return configs.Run{}, lasting(fmt.Errorf("step %d uses revision %d of the config: %w", step, revision, err))
	}
	if err != nil {
		return configs.Run{}, err
	}
	key := blob.Digest(text)
	if config, known := s.configs[key]; known {
		return config, nil
	}
	resolved, err := configs.Reload(runfolder.RevisionKey(revision), text)
	if err != nil {
		return configs.Run{}, lasting(err)
	}
	s.configs[key] = resolved.Run
	return resolved.Run, nil
}

// ChangeConfig writes a revision of the run's config with settings changed. The first step that is told to use it
// does; until then nothing happens.
func (a *Activities) ChangeConfig(ctx context.Context, input workflows.ChangeInput) (workflows.ChangeResult, error) {
	result, err := a.changeConfig(ctx, input)
	return result, classify(err)
}

func (a *Activities) changeConfig(ctx context.Context, input workflows.ChangeInput) (workflows.ChangeResult, error) {
	var result workflows.ChangeResult
	if input.Revision <= input.Base {
		return result, lasting(fmt.Errorf("revision %d of the config is not after revision %d", input.Revision, input.Base))
	}
	folder, err := a.folder(input.Run)
	if err != nil {
		return result, err
	}
	text, err := folder.Config(ctx, input.Base)
	if err != nil {
		return result, err
	}
	before, err := configs.Reload(runfolder.RevisionKey(input.Base), text)
	if err != nil {
		return result, lasting(err)
	}
	after, err := configs.Change(before, input.Overrides)
	if err != nil {
		return result, lasting(err)
	}
	if err := a.tryMethod(ctx, folder, after); err != nil {
		return result, err
	}
	var taken *runfolder.RevisionError
	if err := folder.PutConfig(ctx, input.Revision, after.YAML()); errors.As(err, &taken) {
		return result, lasting(err)
	} else if err != nil {
		return result, err
	}
	result.Spec = Spec(after.Run)
	result.Summary, err = changes(before, after)
	return result, err
}

// tryMethod gives credit to scripted episodes with a changed method, as preparing the run did with its first one.
func (a *Activities) tryMethod(ctx context.Context, folder *runfolder.Folder, resolved *configs.Resolved) error {
	r, err := newRun(folder, resolved.YAML())
	if err != nil {
		return err
	}
	if err := r.read(ctx); err != nil {
		return err
	}
	return r.rehearse(ctx, a.Arithmetic)
}

// changes says in one line which settings two configs tell differently: "training.staleness 0 → 2".
func changes(before, after *configs.Resolved) (string, error) {
	var values [2]map[string]string
	for i, resolved := range []*configs.Resolved{before, after} {
		var tree yaml.MapSlice
		if err := yaml.UnmarshalWithOptions(resolved.YAML(), &tree, yaml.UseOrderedMap()); err != nil {
			return "", lasting(err)
		}
		values[i] = map[string]string{}
		flatten(values[i], "", tree)
	}
	var said []string
	for path, value := range values[1] {
		if old, known := values[0][path]; !known {
			said = append(said, fmt.Sprintf("%s %s", path, value))
		} else if old != value {
			said = append(said, fmt.Sprintf("%s %s → %s", path, old, value))
		}
	}
	for path := range values[0] {
		if _, still := values[1][path]; !still {
			said = append(said, "without "+path)
		}
	}
	if len(said) == 0 {
		return "nothing changes", nil
	}
	slices.Sort(said)
	return strings.Join(said, ", "), nil
}

// flatten writes the values of a tree under their paths.
func flatten(into map[string]string, path string, value any) {
	switch tree := value.(type) {
	case yaml.MapSlice:
		for _, item := range tree {
			flatten(into, strings.TrimPrefix(fmt.Sprintf("%s.%v", path, item.Key), "."), item.Value)
		}
	case []any:
		for i, item := range tree {
			flatten(into, fmt.Sprintf("%s[%d]", path, i), item)
		}
	default:
		into[path] = fmt.Sprint(value)
	}
}
