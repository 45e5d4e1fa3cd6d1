package ask

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
)

// Fetch copies what a window needs of an archive in S3 into dir, day by day, and
// returns the pattern of the files there. It lists and reads, and changes nothing.
func Fetch(ctx context.Context, client *s3.Client, bucket, prefix string, w Window, dir string) (glob string, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, day := range w.days() {
		folder := path.Join(prefix, "cluster="+w.Cluster, "dt="+day) + "/"
		pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String(folder)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return "", fmt.Errorf("listing s3://%s/%s: %w", bucket, folder, err)
			}
			for _, object := range page.Contents {
				key := aws.ToString(object.Key)
				if !strings.HasSuffix(key, ".parquet") {
					continue
				}
				group.Go(func() error {
					return fetch(ctx, client, bucket, key, filepath.Join(dir, "cluster="+w.Cluster, "dt="+day, path.Base(key)))
				})
			}
		}
	}
	return filepath.Join(dir, "cluster=*", "dt=*", "*.parquet"), group.Wait()
}

func fetch(ctx context.Context, client *s3.Client, bucket, key, file string) error {
	object, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
	if err != nil {
		return fmt.Errorf("reading s3://%s/%s: %w", bucket, key, err)
	}
	defer object.Body.Close()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, object.Body); err != nil {
		return fmt.Errorf("reading s3://%s/%s: %w", bucket, key, err)
	}
	return f.Close()
}

// days are the UTC days that the window touches.
func (w Window) days() (days []string) {
	for day := w.From.UTC().Truncate(24 * time.Hour); day.Before(w.To); day = day.AddDate(0, 0, 1) {
		days = append(days, day.Format(time.DateOnly))
	}
	return days
}
