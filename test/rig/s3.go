package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sys/unix"
)

// S3 is a versitygw over a folder: a real S3 server whose objects are files.
type S3 struct {
	Endpoint string
	dir      string
	addr     string
	process  *process
}

// NewS3 prepares a server over dir; Start starts it.
func NewS3(dir string) (*S3, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	for _, d := range []string{"objects", "sidecar"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	return &S3{Endpoint: "http://" + addr, dir: dir, addr: addr}, nil
}

// Start runs the server until Stop.
func (s *S3) Start(ctx context.Context) error {
	program, err := Built("versitygw")
	if err != nil {
		return err
	}
	args := []string{"--port", s.addr, "--quiet", "posix"}
	objects := filepath.Join(s.dir, "objects")
	if unix.Setxattr(objects, "user.rig", []byte("x"), 0) != nil {
		args = append(args, "--sidecar", filepath.Join(s.dir, "sidecar"))
	}
	cmd := exec.Command(program, append(args, objects)...)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
	if s.process, err = startProcess(cmd); err != nil {
		return err
	}
	return s.process.waitListening(ctx, s.addr)
}

// StartS3 prepares and starts a server over dir, with a bucket. What it returns is to
// be stopped, unless it is nil.
func StartS3(ctx context.Context, dir, bucket string) (*S3, error) {
	s, err := NewS3(dir)
	if err != nil {
		return nil, err
	}
	if err := s.Start(ctx); err != nil {
		return s, err
	}
	return s, s.CreateBucket(ctx, bucket)
}

// Stop ends the server; Start begins it again with the same objects.
func (s *S3) Stop() {
	if s.process != nil {
		s.process.kill()
		s.process = nil
	}
}

// Client speaks to the server.
func (s *S3) Client() *s3.Client { return clientOf(s.Endpoint) }

func clientOf(endpoint string) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: aws.String(endpoint),
		UsePathStyle: true,
		Region:       Region,
		Credentials:  credentials.NewStaticCredentialsProvider(AccessKey, SecretKey, ""),
	})
}

// CreateBucket makes a bucket.
func (s *S3) CreateBucket(ctx context.Context, bucket string) error {
	_, err := s.Client().CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)})
	return err
}

// Object is one stored object.
type Object struct {
	Key  string
	Size int64
	Path string // its file
}

// Objects lists a bucket, sorted by key.
func (s *S3) Objects(bucket string) ([]Object, error) {
	var objects []Object
	root := filepath.Join(s.dir, "objects", bucket)
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // replaced while walking
		}
		if err != nil {
			return err
		}
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".sgwtmp") {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		key, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		objects = append(objects, Object{Key: filepath.ToSlash(key), Size: info.Size(), Path: path})
		return nil
	})
	return objects, err
}

// Glob is a file pattern for DuckDB: the table under prefix in a bucket.
func (s *S3) Glob(bucket, prefix string) string {
	return filepath.Join(s.dir, "objects", bucket, filepath.FromSlash(prefix), "cluster=*", "dt=*", "*.parquet")
}
