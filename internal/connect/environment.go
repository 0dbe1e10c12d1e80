package connect

import (
	"errors"
	"fmt"

	"go.temporal.io/sdk/contrib/envconfig"
)

// FromEnvironment reads the standard Temporal client configuration: the profile file (TEMPORAL_CONFIG_FILE, or
// temporalio/temporal.toml in the user's configuration folder), the profile TEMPORAL_PROFILE in it, and the TEMPORAL_…
// variables, which win. external is false when all of it is empty, which means the embedded server.
func FromEnvironment() (profile envconfig.ClientConfigProfile, external bool, err error) {
	return fromEnvironment(envconfig.LoadClientConfigProfileOptions{})
}

func fromEnvironment(o envconfig.LoadClientConfigProfileOptions) (envconfig.ClientConfigProfile, bool, error) {
	p, err := envconfig.LoadClientConfigProfile(o)
	if err != nil {
		return p, false, fmt.Errorf("temporal profile: %w: correct TEMPORAL_PROFILE or the file TEMPORAL_CONFIG_FILE names", err)
	}
	if isEmpty(p) {
		return p, false, nil
	}
	if p.Address == "" {
		// The SDK would go to localhost:7233 without a word.
		return p, true, errors.New("temporal profile: TEMPORAL_… settings are given but no address: set TEMPORAL_ADDRESS (host:port) to use a cluster, or unset them all to use the embedded server")
	}
	if p.Codec != nil {
		// Ignoring it would write payloads in the clear into a history the user believes is encrypted.
		return p, true, errors.New("temporal profile: a remote codec is set, which turnwise does not apply: remove the codec from this profile or choose another with TEMPORAL_PROFILE")
	}
	return p, true, nil
}

func isEmpty(p envconfig.ClientConfigProfile) bool {
	return p.Address == "" && p.Namespace == "" && p.APIKey == "" && p.TLS == nil && p.Codec == nil && len(p.GRPCMeta) == 0 && p.Authority == ""
}
