package algos

import (
	"fmt"
	"testing"

	"github.com/turnwise-rl/turnwise/algos/advantage"
	"github.com/turnwise-rl/turnwise/algos/credit"
)

// The numbers of the reference vectors on the way to an advantage: totals, returns, and each term by itself.
func TestTermsAgreeWithTheVectors(t *testing.T) {
	var match struct {
		Dual struct {
			In struct {
				Rewards [][]float64 `json:"turn_rewards"`
				Lam     float64
			}
			Totals  []float64   `json:"traj_total"`
			Returns [][]float64 `json:"turn_returns"`
		} `json:"dual_level"`
	}
	vectors(t, "matchtir", &match)
	group := turnGroup(match.Dual.In.Rewards)
	totals, returns := termMethod(credit.Broadcast{Of: credit.Turns}), termMethod(credit.TurnReturn{Discount: match.Dual.In.Lam})
	totals.TurnReward, returns.TurnReward = recorded(), recorded()
	sums, turns := streams(t, totals, group), streams(t, returns, group)
	for i, total := range match.Dual.Totals {
		agree(t, fmt.Sprintf("total of MatchTIR's trajectory %d", i), total, sums[i].Terms[0].Turns[0])
		agree(t, fmt.Sprintf("returns of MatchTIR's trajectory %d", i), match.Dual.Returns[i], turns[i].Terms[0].Turns)
	}

	var gtpo struct {
		In struct {
			Rewards [][]float64 `json:"turn_rewards"`
			Gamma   float64
		}
		Returns   [][]float64
		Mean, Std float64
	}
	vectors(t, "gtpo", &gtpo)
	returns = termMethod(credit.TurnReturn{Discount: gtpo.In.Gamma})
	returns.TurnReward = recorded()
	centred := returns
	centred.Advantage.Terms = []advantage.Term{returns.Advantage.Terms[0]}
	term := &centred.Advantage.Terms[0]
	term.Compare, term.Center = advantage.Pooled, advantage.Mean
	group = turnGroup(gtpo.In.Rewards)
	raw, around := streams(t, returns, group), streams(t, centred, group)
	term.Scale, term.Epsilon = advantage.SampleStd, 0
	scaled := streams(t, centred, group)
	for i, want := range gtpo.Returns {
		agree(t, fmt.Sprintf("returns of GTPO's trajectory %d", i), want, raw[i].Terms[0].Turns)
		for k := range want {
			away := around[i].Terms[0].Turns[k]
			agree(t, "mean and deviation of GTPO's pool", []float64{gtpo.Mean, gtpo.Std}, []float64{want[k] - away, away / scaled[i].Terms[0].Turns[k]})
		}
	}
}

// GiGPO's two terms by themselves, with and without deviations.
func TestGiGPOTerms(t *testing.T) {
	type norm struct {
		Episode []float64   `json:"A_episode"`
		Step    [][]float64 `json:"A_step"`
	}
	var v struct {
		In struct {
			Trajectories [][][2]any
		}
		MeanStd norm `json:"mean_std_norm"`
		Mean    norm `json:"mean_norm"`
	}
	vectors(t, "gigpo", &v)
	var rewards [][]float64
	for _, turns := range v.In.Trajectories {
		var r []float64
		for _, turn := range turns {
			r = append(r, turn[1].(float64))
		}
		rewards = append(rewards, r)
	}
	group := turnGroup(rewards)
	for i, turns := range v.In.Trajectories {
		for k, turn := range turns {
			group.Trajectories[i].Turns[k].State = turn[0].(string)
		}
	}
	for scale, want := range map[advantage.Scale]norm{advantage.SampleStd: v.MeanStd, advantage.NoScale: v.Mean} {
		m := gigpo()
		m.TurnReward = recorded()
		for j := range m.Advantage.Terms {
			m.Advantage.Terms[j].Scale = scale
		}
		for i, s := range streams(t, m, group) {
			agree(t, fmt.Sprintf("episode term of trajectory %d, scale %s", i, scale), want.Episode[i], s.Terms[0].Turns[0])
			agree(t, fmt.Sprintf("step term of trajectory %d, scale %s", i, scale), want.Step[i], s.Terms[1].Turns)
		}
	}
}
