package main

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"

	"leafserve"
	"leafserve/internal/leaftest"
	"leafserve/weights/builtin"
)

// TestWorkersWithDifferentModels: one API offers two models, and each worker
// takes the jobs that it can do, also those that waited for it.
func TestWorkersWithDifferentModels(t *testing.T) {
	tiny := leaftest.Model(t, "tiny-sd15")
	redis, dir := leaftest.Redis(t), t.TempDir()
	shared := []string{"--redis", redis.URL(), "--data-dir", dir}
	api := launchServer(t, "api", append(shared, "--model", builtin.Name+","+tiny)...)
	request := func(model string) string {
		return fmt.Sprintf(`{"model":%q,"prompt":"a red apple","seed":3,"steps":2}`, model)
	}
	forTiny, forBoth := api.enqueue(request("tiny-sd15")), api.enqueue(request(builtin.Name))
	launch(t, append([]string{"worker", "--model", builtin.Name}, shared...)...)
	if job := decodeJob(t, api.await(forBoth.ID, "done")); job.State != leafserve.StateSucceeded {
		t.Errorf("the built-in model's job ended as %+v, want succeeded", job)
	}
	if job := decodeJob(t, api.call(http.StatusOK, "GET", "/jobs/"+forTiny.ID, "")); job.State != leafserve.StateQueued {
		t.Errorf("the other model's job is %s, want queued until its worker comes", job.State)
	}
	launch(t, append([]string{"worker", "--model", tiny}, shared...)...)
	job := decodeJob(t, api.await(forTiny.ID, "done"))
	if job.State != leafserve.StateSucceeded {
		t.Fatalf("the other model's job ended as %+v, want succeeded", job)
	}
	got := api.call(http.StatusOK, "GET", job.Images[0].URL, "")
	if want := generatedFile(t, tiny, request("tiny-sd15")); !bytes.Equal(got, want) {
		t.Error("its picture is not the one that generate makes")
	}
}
