// Package tags makes the call of docs/protocol.md, with the stubs that protoc generates.
package tags

import (
	"context"
	"encoding/binary"
	"math"
	"strings"

	pb "example/inference"
)

// Request asks for the k best tags; image has 224 x 224 x 3 bytes, counts one number for each of the N tags.
func Request(image []byte, counts []float32, k int64, id string) *pb.ModelInferRequest {
	little := make([]byte, 4*len(counts))
	for i, count := range counts {
		binary.LittleEndian.PutUint32(little[4*i:], math.Float32bits(count))
	}
	classes := &pb.InferParameter{ParameterChoice: &pb.InferParameter_Int64Param{Int64Param: k}}
	return &pb.ModelInferRequest{
		ModelName: "tag_recommender",
		Id:        id,
		Inputs: []*pb.ModelInferRequest_InferInputTensor{
			{Name: "IMAGE", Datatype: "UINT8", Shape: []int64{1, 224, 224, 3}},
			{Name: "USER_TAG_COUNTS", Datatype: "FP32", Shape: []int64{1, int64(len(counts))}},
		},
		Outputs: []*pb.ModelInferRequest_InferRequestedOutputTensor{
			{Name: "TAGS", Parameters: map[string]*pb.InferParameter{"classification": classes}},
		},
		RawInputContents: [][]byte{image, little},
	}
}

// Ask returns the entries score, index and label, best first. The context carries the deadline.
func Ask(ctx context.Context, stub pb.GRPCInferenceServiceClient, request *pb.ModelInferRequest) ([][]string, error) {
	answer, err := stub.ModelInfer(ctx, request)
	if err != nil {
		return nil, err
	}
	var entries [][]string
	for rest := answer.RawOutputContents[0]; len(rest) > 0; {
		end := 4 + binary.LittleEndian.Uint32(rest)
		entries = append(entries, strings.SplitN(string(rest[4:end]), ":", 3))
		rest = rest[end:]
	}
	return entries, nil
}
