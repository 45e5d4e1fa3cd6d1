package trino

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// release is a Trino that can be had from Maven Central, and what is particular
// to it.
type release struct {
	version          string
	javaMin, javaMax int      // 0: none is known to be too new
	fill             filler   // makes the folders lib and plugin
	main             string   // what to run: a class, or a source file of the installation
	jvm              []string // options beside the common ones
	metastore        func(ctx context.Context, dir string, o *Options) (properties []string, err error)
}

type filler func(ctx context.Context, r *release, cache, dir string, logf logf) error

type logf func(format string, args ...any)

// releases in the order of preference: the first for which there is a Java.
var releases = []*release{
	{
		version: "476", javaMin: 24,
		fill: fillFromServer,
		main: "io.trino.server.TrinoServer",
		jvm: []string{
			"-XX:+EnableDynamicAgentLoading",
			"--add-modules=jdk.incubator.vector",
			"--enable-native-access=ALL-UNNAMED",
			"--sun-misc-unsafe-memory-access=allow",
		},
		metastore: metastoreInFolder,
	},
	{
		version: "435", javaMin: 17, javaMax: 21, // made for 17, the only one that was tried
		fill:      fillFromMaven,
		main:      mainSource,
		metastore: metastoreInBucket,
	},
}

// choose takes the release of that version, or of none the first that a Java of
// this machine can run.
func choose(version string, found []*java) (*release, *java, error) {
	var problems []error
	for _, r := range releases {
		if version != "" && version != r.version {
			continue
		}
		for _, j := range found {
			if j.major >= r.javaMin && (r.javaMax == 0 || j.major <= r.javaMax) {
				return r, j, nil
			}
		}
		problems = append(problems, fmt.Errorf("version %s needs %s", r.version, r.javaRange()))
	}
	if problems == nil {
		return nil, nil, fmt.Errorf("TRINO_VERSION=%s is not among those that this package can set up: %s", version, versions())
	}
	return nil, nil, fmt.Errorf("%w; found in $TRINO_JAVA_HOME, $JAVA_HOME, $PATH and %s: %s; install such a JDK and set TRINO_JAVA_HOME to its folder",
		errors.Join(problems...), usualJavas, list(found))
}

func (r *release) javaRange() string {
	if r.javaMax == 0 {
		return fmt.Sprintf("Java %d or later", r.javaMin)
	}
	return fmt.Sprintf("a Java from %d to %d", r.javaMin, r.javaMax)
}

func versions() string {
	var all []string
	for _, r := range releases {
		all = append(all, r.version)
	}
	return strings.Join(all, ", ")
}
