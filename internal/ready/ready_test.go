package ready

import "testing"

func TestParse(t *testing.T) {
	for text, want := range map[string]Condition{
		"": {}, "agent": {}, "none": {Kind: None}, "init": {Kind: Init}, "systemd": {Kind: Systemd},
		"console:login: ": {Console, "login: "}, "command:test -e /run/x": {Command, "test -e /run/x"},
	} {
		got, err := Parse(text)
		if err != nil || got != want {
			t.Errorf("%q is %+v, %v, want %+v", text, got, err, want)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%q, written as %q, is %+v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"Agent", "console", "console:", "command: ", "console:\n", "init ", "ready"} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		} else if want := "expected " + valid + ", got `" + text + "`"; err.Error() != want {
			t.Errorf("the error of %q is %q", text, err)
		}
	}
}
