import com.google.protobuf.ByteString;
import inference.GRPCInferenceServiceGrpc.GRPCInferenceServiceBlockingStub;
import inference.GrpcService.InferParameter;
import inference.GrpcService.ModelInferRequest;
import inference.GrpcService.ModelInferResponse;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** The call of docs/protocol.md, with the stubs that protoc generates. */
final class Tags {
  /** `image`: 224 x 224 x 3 bytes; `counts`: one for each of the N tags. */
  static ModelInferRequest request(byte[] image, float[] counts, long k, String id) {
    ByteBuffer little = ByteBuffer.allocate(4 * counts.length).order(ByteOrder.LITTLE_ENDIAN);
    for (float count : counts) little.putFloat(count);
    ModelInferRequest.Builder request = ModelInferRequest.newBuilder().setModelName("tag_recommender").setId(id)
        .addRawInputContents(ByteString.copyFrom(image)).addRawInputContents(ByteString.copyFrom(little.array()));
    request.addInputsBuilder().setName("IMAGE").setDatatype("UINT8").addAllShape(List.of(1L, 224L, 224L, 3L));
    request.addInputsBuilder().setName("USER_TAG_COUNTS").setDatatype("FP32").addShape(1).addShape(counts.length);
    InferParameter classes = InferParameter.newBuilder().setInt64Param(k).build();
    request.addOutputsBuilder().setName("TAGS").putParameters("classification", classes);
    return request.build();
  }

  /** The entries score, index and label, best first. */
  static List<String[]> ask(GRPCInferenceServiceBlockingStub stub, ModelInferRequest request, long deadlineMs) {
    ModelInferResponse answer = stub.withDeadlineAfter(deadlineMs, TimeUnit.MILLISECONDS).modelInfer(request);
    ByteBuffer contents = answer.getRawOutputContents(0).asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
    List<String[]> entries = new ArrayList<>();
    while (contents.hasRemaining()) {
      byte[] entry = new byte[contents.getInt()];
      contents.get(entry);
      entries.add(new String(entry, java.nio.charset.StandardCharsets.UTF_8).split(":", 3));
    }
    return entries;
  }
}
