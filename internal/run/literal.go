package run

// describe reads what a test file says about itself before it runs.
func describe(path, abs string) (Candidate, error) {
	return Candidate{Path: path, Abs: abs, FixtureRefs: []string{}}, nil
}
