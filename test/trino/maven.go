package trino

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// mainSource does what the main class of Trino's server does, which is published
// for few versions apart from the whole server. Java compiles it as it runs it.
const mainSource = "Main.java"

const mainText = `public class Main {
    public static void main(String[] arguments) {
        new io.trino.server.Server().start("%s");
    }
}
`

// project is a Maven project that is nothing but its one dependency.
const project = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>audit_s3</groupId>
  <artifactId>trino</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>io.trino</groupId><artifactId>trino-main</artifactId><version>%s</version></dependency>
  </dependencies>
</project>
`

const copyDependencies = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

// fillFromMaven puts a server together for a version whose archive is not to be
// had: the engine with what it depends on, the hive plugin, and a main class.
func fillFromMaven(ctx context.Context, r *release, cache, dir string, logf logf) error {
	if err := resolve(ctx, r, dir, logf); err != nil {
		return err
	}
	name := fmt.Sprintf("trino-hive-%s.zip", r.version)
	path, discard, err := fetch(ctx, central+"trino-hive/"+r.version+"/"+name, cache, logf)
	if err != nil {
		return err
	}
	defer discard()
	if err := unzip(path, filepath.Join(dir, "plugin", "hive")); err != nil {
		return fmt.Errorf("unpacking %s: %w", path, err)
	}
	return os.WriteFile(filepath.Join(dir, mainSource), fmt.Appendf(nil, mainText, r.version), 0o644)
}

// resolve lets Maven find and fetch the engine and what it depends on.
func resolve(ctx context.Context, r *release, dir string, logf logf) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return errors.New("mvn is not on $PATH, which is needed to fetch this version: install Maven, or a JDK that runs version 476")
	}
	pom := filepath.Join(dir, "pom.xml")
	if err := os.WriteFile(pom, fmt.Appendf(nil, project, r.version), 0o644); err != nil {
		return err
	}
	logf("fetching trino-main %s and what it depends on with Maven", r.version)
	cmd := exec.CommandContext(ctx, mvn, "--batch-mode", "--quiet", "--file", pom, copyDependencies,
		"-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(dir, "lib"))
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mvn could not fetch trino-main %s: %w\n%s", r.version, err, said)
	}
	return nil
}

// unzip puts the files of an archive, without its first folder, into dir.
func unzip(path, dir string) error {
	archive, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	defer archive.Close()
	for _, f := range archive.File {
		name := withoutTop(f.Name)
		if name == "" || strings.HasSuffix(name, "/") {
			continue
		}
		if !filepath.IsLocal(name) {
			return fmt.Errorf("it wants to write to %q", f.Name)
		}
		if err := unzipOne(f, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func unzipOne(f *zip.File, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	from, err := f.Open()
	if err != nil {
		return err
	}
	defer from.Close()
	return writeFile(path, from)
}
