package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// usageText prints what follows the description in a verb's help, at most usualWidth
// columns wide. A template of the library would do the same, but makes the program a third
// larger: the linker keeps every method that a template might name.
func usageText(cmd *cobra.Command) error {
	var b strings.Builder
	section := func(title string) { fmt.Fprintf(&b, "\n%s:\n", title) }
	verbs := func(group string) {
		for _, sub := range cmd.Commands() {
			if sub.GroupID == group && (sub.IsAvailableCommand() || sub.Name() == "help") {
				fmt.Fprintf(&b, "  %-*s %s\n", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	fmt.Fprintf(&b, "Usage:\n")
	if cmd.Runnable() {
		fmt.Fprintf(&b, "  %s\n", cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s [command]\n", cmd.CommandPath())
	}
	if len(cmd.Aliases) > 0 {
		section("Aliases")
		fmt.Fprintf(&b, "  %s\n", cmd.NameAndAliases())
	}
	if cmd.HasExample() {
		section("Examples")
		fmt.Fprintln(&b, cmd.Example)
	}
	if cmd.HasAvailableSubCommands() && len(cmd.Groups()) == 0 {
		section("Available Commands")
		verbs("")
	}
	for _, group := range cmd.Groups() {
		fmt.Fprintf(&b, "\n%s\n", group.Title)
		verbs(group.ID)
	}
	if cmd.HasAvailableLocalFlags() {
		section("Flags")
		b.WriteString(cmd.LocalFlags().FlagUsagesWrapped(usualWidth))
	}
	if cmd.HasAvailableInheritedFlags() {
		section("Global Flags")
		b.WriteString(cmd.InheritedFlags().FlagUsagesWrapped(usualWidth))
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\nUse \"%s [command] --help\" for more about a command.\n", cmd.CommandPath())
	}
	topicUsage(&b, cmd)
	_, err := fmt.Fprint(cmd.OutOrStderr(), b.String())
	return err
}
