package trino

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// heap is enough for tables of some million rows.
const heap = "6G"

// writeConfiguration fills dir/etc.
func writeConfiguration(ctx context.Context, dir string, port int, in *installation, o *Options) error {
	metastore, err := in.metastore(ctx, filepath.Join(dir, "metastore"), o)
	if err != nil {
		return err
	}
	files := map[string][]string{
		"config.properties": {
			"node.environment=test",
			"node.id=single",
			"node.bind-ip=127.0.0.1",
			"node.internal-address=127.0.0.1",
			"coordinator=true",
			"node-scheduler.include-coordinator=true",
			fmt.Sprintf("http-server.http.port=%d", port),
			fmt.Sprintf("discovery.uri=http://127.0.0.1:%d", port),
			"plugin.dir=" + filepath.Join(in.dir, "plugin"),
			"catalog.config-dir=" + filepath.Join(dir, "etc", "catalog"),
			// With the headroom, which is 30 % by default, both must fit into the heap.
			"query.max-memory=3GB",
			"query.max-memory-per-node=3GB",
		},
		// Bootstrap lists every property there is, which would push an error out of
		// the end of the log.
		"log.properties": {"io.trino=INFO", "Bootstrap=WARN"},
		filepath.Join("catalog", Catalog+".properties"): hiveCatalog(metastore, o),
	}
	if err := os.MkdirAll(filepath.Join(dir, "etc", "catalog"), 0o755); err != nil {
		return err
	}
	for name, lines := range files {
		if err := os.WriteFile(filepath.Join(dir, "etc", name), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// hiveCatalog leaves what concerns reading at its defaults, which are near to
// Athena's: timestamps of milliseconds, columns of Parquet found by name.
func hiveCatalog(metastore []string, o *Options) []string {
	lines := []string{
		"connector.name=hive",
		"hive.metastore=file",
		"fs.hadoop.enabled=false",
		"fs.native-s3.enabled=true",
		"s3.endpoint=" + o.S3Endpoint,
		"s3.region=" + o.Region,
		"s3.path-style-access=true",
		"s3.aws-access-key=" + o.AccessKey,
		"s3.aws-secret-key=" + o.SecretKey,
		"hive.partition-projection-enabled=true",
		"hive.non-managed-table-writes-enabled=true",
		"hive.storage-format=PARQUET",
		"hive.security=allow-all", // 435 denies DROP TABLE otherwise
	}
	return append(append(lines, metastore...), o.Catalog...)
}

// javaArguments are those that Trino's documentation recommends, with the heap
// as the first, and what its launcher adds.
func javaArguments(in *installation, dir string) []string {
	etc := filepath.Join(dir, "etc")
	arguments := []string{
		"-server",
		"-Xmx" + heap,
		"-XX:G1HeapRegionSize=32M",
		"-XX:+ExplicitGCInvokesConcurrent",
		"-XX:+ExitOnOutOfMemoryError",
		"-XX:-OmitStackTraceInFastThrow",
		"-XX:ReservedCodeCacheSize=512M",
		"-XX:PerMethodRecompilationCutoff=10000",
		"-XX:PerBytecodeRecompilationCutoff=10000",
		"-Djdk.attach.allowAttachSelf=true",
		"-Djdk.nio.maxCachedBufferSize=2000000",
		"-Dfile.encoding=UTF-8",
		"-Duser.timezone=UTC",
		"-Dconfig=" + filepath.Join(etc, "config.properties"),
		"-Dlog.levels-file=" + filepath.Join(etc, "log.properties"),
	}
	main := in.main
	if strings.HasSuffix(main, ".java") {
		main = filepath.Join(in.dir, main)
	}
	return append(append(arguments, in.jvm...), "-cp", filepath.Join(in.dir, "lib", "*"), main)
}

// plain leaves out of an environment what would lead the SDK in Trino to another
// S3, or give the JVM further options.
func plain(env []string) []string {
	var out []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, "AWS_") && !strings.HasPrefix(kv, "JAVA_TOOL_OPTIONS=") && !strings.HasPrefix(kv, "JDK_JAVA_OPTIONS=") {
			out = append(out, kv)
		}
	}
	return out
}
