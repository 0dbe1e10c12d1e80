package activity

import (
	"context"
	"errors"
	"fmt"
	"strings"

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
// does; until then nothing happens. The same values give the revision that is there; other values are refused, because
// a step may have been told to use that.
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
		err = sameRevision(ctx, folder, input.Revision, before, after)
		if err != nil {
			return result, err
		}
	} else if err != nil {
		return result, err
	}
	result.Spec = Spec(after.Run)
	result.Summary = "nothing changes"
	if differences := after.Differences(before); len(differences) > 0 {
		result.Summary = strings.Join(differences, ", ")
	}
	return result, nil
}

// sameRevision compares the values of a revision that exists with those that it is asked for with. A change whose
// answer was lost left it; the run does not know of it before the same change is asked for again.
func sameRevision(ctx context.Context, folder *runfolder.Folder, revision int, before, asked *configs.Resolved) error {
	text, err := folder.Config(ctx, revision)
	if err != nil {
		return err
	}
	existing, err := configs.Reload(runfolder.RevisionKey(revision), text)
	if err != nil {
		return lasting(err)
	}
	if existing.Digest() == asked.Digest() {
		return nil
	}
	changes := "nothing changes"
	if differences := existing.Differences(before); len(differences) > 0 {
		changes = strings.Join(differences, ", ")
	}
	return lasting(fmt.Errorf("revision %d of the config exists already, of an earlier change whose answer was lost: %s; try that change again, which takes it up, and then make this one, which becomes revision %d",
		revision, changes, revision+1))
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
