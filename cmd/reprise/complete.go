package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/reprise-run/reprise/events"
)

// completes has the shell propose values of a flag, and not files. A flag that is
// not there is a mistake of ours, which every test of the command meets.
func completes(c *cobra.Command, flag string, values func() []string) {
	err := c.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return values(), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err)
	}
}

// eventTypes lists the types of events that the owners table has.
func eventTypes() []string {
	var all []string
	for _, r := range events.Rules() {
		all = append(all, r.Type)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
