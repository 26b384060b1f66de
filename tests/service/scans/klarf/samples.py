"""KLARF files for the tests, written by hand: every unusual form that tools produce."""

# Comments, records that no one knows, wrapped rows, several files of images, numbers in all forms.
KLARF_1_2 = """FileVersion 1 2;
# exported by a tool of our own
FileTimestamp 11-30-2026 18:42:33;
InspectionStationID "MAKER" "Model 9" "SEM01";
SampleType WAFER;
ResultTimestamp 11-30-26 18:40:00;
LotID "LOT 7";
SampleSize 1 300;
DeviceID "DEV";
SetupID "RECIPE_A" 11-01-26 08:00:00;
StepID "M1_CMP";
SampleOrientationMarkType NOTCH;
OrientationMarkLocation DOWN;
DiePitch 1.0000000000e+004 5.50000e+003;
DieOrigin 0.0000000000e+000 0.0;
UnknownRecord "a ; in a string"   6" 1,2
    and\ta second line;
WaferID "W03";   Slot 3;
SampleCenterLocation -2.0e1 2.75e3;
ClassLookup 2
  0 "Unclassified"
  12 "Bridge";
InspectionTest 1;
SampleTestPlan 3
  -2 -1
  0 0
  0 1 ;
AreaPerTest 2.0e+010;
CustomWaferList 2
  NUMDIEINSP "1234"
  Slot "other" ;

DefectRecordSpec 10 DEFECTID XREL YREL XINDEX YINDEX DSIZE CLASSNUMBER TEST
  IMAGECOUNT IMAGELIST ;
DefectList;
TiffFileName lot 7.tif;
DefectList
 1 4958.616 1.483252E3 -2 -1 .5 12 1 2 2 1 0 2 0
 2 4539.866 1485.720 0 0 7.80 0 1 0 0
 3 759.606 4444.340 0 1 1.300
   12 1 1 1
 39 1;
// single images
TiffFileName "W03/d4.png";
DefectList
 4 905.126 +2023.128 0 1 14. 99 1 1 1 1 0;
SummarySpec 5
  TESTNO    NDEFECT    DEFDENSITY    NDIE    NDEFDIE  ;
SummaryList
  1    4    2.0000000000e-001    3    3  ;
EndOfFile;
"""

KLARF_1_8 = """Record FileRecord  "1.8"
{
  Record LotRecord "LOT 7"
  {
    Field DeviceID 1 {"DEV"}
    # a comment
    Field DiePitch 2 {10000000, 5500000}
    Field InspectionStationID 3 {"MAKER", "Model 9", "SEM01"}
    Field Odd 2 {"a } in, a string",   1.50e+003 }
    Record WaferRecord "W03"
    {
      Field DieOrigin 2 {0, 0}
      Field SampleCenterLocation 2 {-20000, 2750000}
      Field SlotNumber 1 {3}
      Field OrientationInstructions 1 {""}
      List DefectList
      {
        Columns 9 { int32 DEFECTID,  int32 XREL, int32 YREL,
          int32 XINDEX, int32 YINDEX, int32 DSIZE, int32 CLASSNUMBER, string NOTE,
          ImageList IMAGEINFO }
        Data 4
        {
          1 4958616 1483252 -2 -1 500 12 "a;b" Images 2 { "a/1.jpg" "JPG" 1 "Patch",
            "a/2.jpg" "JPG" 2 "Ref" };
          2 4539866 1485720 0 0
            7800 0 "" N ;
          3 759606 4444340 0 1 NA 12 x Image 1 { "d3.png" "PNG" 1 "24" } ;
          4 905126 2023128 0 1 14000 99 "no images";
        }
      }
      Record TestRecord "1"
      {
        Field AreaPerTest 1 {2.00e+015}
        List SampleTestPlanList
        {
          Columns 2 { int32 XINDEX, int32 YINDEX }
          Data 1
          {
             0 16 ;
          }
        }
      }
    }
    Record WaferRecord "W04"
    {
      List DefectList { Columns 1 { int32 DEFECTID } Data 1 { 7; } }
    }
    Field RecipeID 3 {"RECIPE_A", "2026-11-01", "08:00:00"}
    Field ResultTimestamp 2 {"2026-11-30", "18:40:00"}
    Field StepID 1 {"M1_CMP"}
    Field OrientationMarkLocation 1 {0}
    List ClassLookupList
    {
      Columns 3 { int32 CLASSNUMBER, string CLASSNAME, string CLASSCODE }
      Data 2
      {
         0 "Unclassified" "";
         12 "Bridge" "B";
      }
    }
  }
  Field FileTimestamp 2 {"2026-11-30", "18:42:33"}
}
EndOfFile;
"""


def small_1_2(rows: str, columns: str = "2 DEFECTID XREL") -> bytes:
    """A file of 1.2 with one defect list; its rows begin in line 4."""
    return (
        f"FileVersion 1 2;\nDefectRecordSpec {columns};\nDefectList\n{rows};\nEndOfFile;\n".encode()
    )


def small_1_8(
    rows: str, columns: str = "2 { int32 DEFECTID, int32 XREL }", count: int = 1
) -> bytes:
    """A file of 1.8 with one defect list; its rows begin in line 6."""
    return (
        'Record FileRecord "1.8" { Record LotRecord "L" { Record WaferRecord "W" {\n'
        f"List DefectList {{\nColumns {columns}\nData {count}\n{{\n{rows}\n}} }} }} }} }}\n"
        "EndOfFile;\n"
    ).encode()
